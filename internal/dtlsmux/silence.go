package dtlsmux

import "github.com/pion/logging"

// silence keeps pion from writing to standard output. Why a handshake failed,
// its error says.
type silence struct{}

func (s silence) NewLogger(string) logging.LeveledLogger { return s }

func (silence) Trace(string)          {}
func (silence) Tracef(string, ...any) {}
func (silence) Debug(string)          {}
func (silence) Debugf(string, ...any) {}
func (silence) Info(string)           {}
func (silence) Infof(string, ...any)  {}
func (silence) Warn(string)           {}
func (silence) Warnf(string, ...any)  {}
func (silence) Error(string)          {}
func (silence) Errorf(string, ...any) {}
