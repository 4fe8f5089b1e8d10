//go:build !unix

package record

import "os"

// syncDir does nothing: directories can't be synced here.
func syncDir(*os.Root, string) error { return nil }
