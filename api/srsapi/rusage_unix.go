//go:build unix

package srsapi

import "syscall"

func rusages() figures {
	var u syscall.Rusage
	f := newFigures(syscall.Getrusage(syscall.RUSAGE_SELF, &u) == nil)
	for name, v := range map[string]int64{
		"utime": u.Utime.Nano() / 1e9, "stime": u.Stime.Nano() / 1e9, "maxrss": int64(u.Maxrss), "ixrss": int64(u.Ixrss),
		"idrss": int64(u.Idrss), "isrss": int64(u.Isrss), "minflt": int64(u.Minflt), "majflt": int64(u.Majflt), "nswap": int64(u.Nswap),
		"inblock": int64(u.Inblock), "oublock": int64(u.Oublock), "msgsnd": int64(u.Msgsnd), "msgrcv": int64(u.Msgrcv),
		"nsignals": int64(u.Nsignals), "nvcsw": int64(u.Nvcsw), "nivcsw": int64(u.Nivcsw),
	} {
		f["ru_"+name] = v
	}
	return f
}
