package users_test

import (
	"context"
	"fmt"

	"github.com/runnel-media/runnel/api/users"
	"github.com/runnel-media/runnel/auth"
)

// A user may publish below its own name.
func ExampleStore() {
	s := &users.Store{}
	_, err := s.Add(users.User{Name: "ann", Grants: users.Grants{Publish: []string{"live/{user}/*"}}}, "correct horse")
	fmt.Println(err)
	for _, name := range []string{"live/ann/cam", "live/bob/cam"} {
		_, err = s.Authorize(context.Background(), &auth.Request{Action: auth.Publish, Stream: name, User: "ann", Password: "correct horse"})
		fmt.Println(name, err)
	}
	// Output:
	// <nil>
	// live/ann/cam <nil>
	// live/bob/cam auth: denied
}
