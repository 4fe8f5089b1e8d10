//go:build !unix

package transcode

import "os"

func ignoreTerminate() {}

func terminated() <-chan os.Signal { return nil }
