package dtlsmux

import "github.com/pion/logging"

// Silence keeps pion from writing to standard output. Why a handshake failed,
// its error says.
type Silence struct{}

func (s Silence) NewLogger(string) logging.LeveledLogger { return s }

func (Silence) Trace(string)          {}
func (Silence) Tracef(string, ...any) {}
func (Silence) Debug(string)          {}
func (Silence) Debugf(string, ...any) {}
func (Silence) Info(string)           {}
func (Silence) Infof(string, ...any)  {}
func (Silence) Warn(string)           {}
func (Silence) Warnf(string, ...any)  {}
func (Silence) Error(string)          {}
func (Silence) Errorf(string, ...any) {}
