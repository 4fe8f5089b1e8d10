package sqlauth_test

import (
	"context"
	"fmt"
	"os"
	"path/filepath"

	"github.com/runnel-media/runnel/auth"
	"github.com/runnel-media/runnel/auth/sqlauth/sqlite"
	"github.com/runnel-media/runnel/auth/turnauth"
)

// A TURN server that asks a database. Cache keeps what it said, so that it is
// not asked for each allocation.
func Example() {
	dir, err := os.MkdirTemp("", "")
	if err != nil {
		panic(err)
	}
	defer os.RemoveAll(dir)
	db, err := sqlite.Create(filepath.Join(dir, "turndb"))
	if err != nil {
		panic(err)
	}
	defer db.Close()
	ctx := context.Background()
	if err := db.Create(ctx); err != nil {
		panic(err)
	}
	for table, row := range map[turnauth.Table]turnauth.Row{
		turnauth.UserTable:   {Realm: "north.gov", Name: "gorst", Value: "7da2270ccfa49786e0115366d3a3d14d"},
		turnauth.OptionTable: {Realm: "north.gov", Name: turnauth.MaxBPS, Value: "125000"},
	} {
		if err := db.Put(ctx, table, row); err != nil {
			panic(err)
		}
	}

	cache := &turnauth.Cache{Store: db}          // also Server.Realms
	authorizer := &turnauth.Stored{Store: cache} // Server.Auth
	grant, err := authorizer.Authorize(ctx, &auth.Request{
		Action: auth.Relay, User: "gorst", Realm: "north.gov",
		Proof: func(s auth.Secret) bool { return len(s.Key) == 16 },
	})
	fmt.Println(grant.User, err)
	options, err := cache.RealmOptions(ctx, "north.gov")
	fmt.Println(options.BitRate, err)
	// Output:
	// gorst <nil>
	// 1000000 <nil>
}
