//go:build !unix

package main

import "os"

// reopenSignals ask for the log to be opened anew: there are none here.
var reopenSignals []os.Signal
