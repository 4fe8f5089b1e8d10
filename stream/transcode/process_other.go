//go:build !unix

package transcode

import (
	"errors"
	"os/exec"
)

// rootDir is this process's directory: there is no other that is everywhere.
const rootDir = ""

func (c *command) prepare(*exec.Cmd) error {
	switch {
	case c.user != nil:
		return errors.New("transcode: a User needs a Unix system")
	case c.outputs > 1:
		return errors.New("transcode: this system gives a program one pipe to write to, so that there can be one rendition only")
	}
	return nil
}

func (c *command) limit(int) error { return nil }

func killGroup(leader *exec.Cmd) { _ = leader.Process.Kill() }

func terminate(leader *exec.Cmd) { killGroup(leader) }

func (p *process) reap(leader *exec.Cmd) error {
	err := leader.Wait()
	p.mu.Lock()
	defer p.mu.Unlock()
	p.reaped = true
	return err
}
