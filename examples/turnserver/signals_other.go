//go:build !unix

package main

import "os"

// controls: there are no signals to be had; the API does the same.
func controls() []os.Signal { return nil }

func actionOf(os.Signal) action { return reload }
