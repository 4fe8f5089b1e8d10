package s3store_test

import (
	"fmt"

	"github.com/runnel-media/runnel/record/s3store"
)

func ExampleParse() {
	s, err := s3store.Parse("https://KEY:SECRET@s3.eu-central-1.amazonaws.com/media/live?region=eu-central-1&sse=AES256")
	fmt.Println(s.Bucket, s.Prefix, s.Encryption, err)
	// Output: media live/ AES256 <nil>
}
