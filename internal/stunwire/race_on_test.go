//go:build race

package stunwire

const raceEnabled = true
