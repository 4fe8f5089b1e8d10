package statsdb_test

import (
	"context"
	"fmt"

	"github.com/redis/go-redis/v9"

	"github.com/runnel-media/runnel/api/statsdb"
	"github.com/runnel-media/runnel/turn"
)

// What watches coturn in Redis watches this server too.
func Example() {
	srv := &turn.Server{Realm: "example.org"}
	w := &statsdb.Writer{Server: srv, Client: redis.NewClient(&redis.Options{Addr: "localhost:6379"})}
	done := make(chan error)
	go func() { done <- w.Run(context.Background()) }()
	// … srv.ServePacket and srv.Serve, until the program ends:
	if err := srv.Close(); err != nil {
		fmt.Println(err)
	}
	fmt.Println(<-done)
	// Output: <nil>
}
