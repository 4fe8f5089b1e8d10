//go:build !linux

package udp

import "net"

type sysLoop struct{}

func (l *Loop) addSys(*Conn, Handler) error { return net.ErrClosed }
func (l *Loop) hasSys() bool                { return false }
func (l *Loop) runSys(bool) error           { return net.ErrClosed }
func (l *Loop) wakeSys()                    {}
func (l *Loop) connsSys(cs []*Conn) []*Conn { return cs }
func (l *Loop) closeSys()                   {}
