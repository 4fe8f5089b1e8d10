//go:build !unix

package srsapi

import "strings"

func rusages() figures {
	f := newFigures(false)
	for name := range strings.FieldsSeq("utime stime maxrss ixrss idrss isrss minflt majflt nswap inblock oublock msgsnd msgrcv nsignals nvcsw nivcsw") {
		f["ru_"+name] = 0
	}
	return f
}
