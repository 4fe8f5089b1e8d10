//go:build !linux

package main

import (
	"context"
	"errors"
	"io"
	"net"
	"net/netip"
	"os"
	"os/exec"
	"sync/atomic"
	"time"
)

// errSystem: what a process uses is read from /proc, and the players are driven
// by epoll.
var errSystem = errors.New("bench: runs on Linux only")

func supported() error                                                          { return errSystem }
func raiseFiles(uint64) error                                                   { return errSystem }
func ownGroup(*exec.Cmd)                                                        {}
func signalGroup(int, bool)                                                     {}
func runGuard(context.Context, []string, io.Reader, io.Writer, io.Writer) error { return errSystem }
func tree(int) []int                                                            { return nil }
func cpuTime(int) (time.Duration, error)                                        { return 0, errSystem }
func residentBytes(int) (int64, error)                                          { return 0, errSystem }
func busyTime() (busy, idle time.Duration, err error)                           { return 0, 0, errSystem }
func machineFacts() string                                                      { return "" }

// drain would count and discard what players receive.
type drain struct{}

func newDrain(time.Duration) (*drain, error)     { return nil, errSystem }
func (*drain) add(*player, *os.File, bool) error { return errSystem }
func (*drain) close()                            {}

// udpLoad would send the bursts of TURN clients and peers.
type udpLoad struct{ sent, late atomic.Int64 }

func newUDPLoad(*turnLoad) (*udpLoad, error)                      { return nil, errSystem }
func (*udpLoad) peerAddr(int) netip.AddrPort                      { return netip.AddrPort{} }
func (*udpLoad) adopt(int, *net.UDPConn) error                    { return errSystem }
func (*udpLoad) run()                                             {}
func (*turnLoad) allocations() (a turnConnected)                  { return a }
func (*turnLoad) bindings(time.Duration) (a turnBound, err error) { return a, errSystem }
