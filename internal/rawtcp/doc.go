// Package rawtcp reads and writes TCP sockets without telling Go's scheduler
// of each system call. The calls never wait, so there is nothing for it to do,
// but it would watch over them: where connections speak now and then, a fifth
// of a server's CPU time is that. It also tells how much a socket takes without
// waiting, so that a loop can write to it.
//
// Where the system is not Linux, connections are left as they are.
package rawtcp
