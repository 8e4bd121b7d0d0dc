package process

import (
	"errors"

	"github.com/goproc/goproc/core/sys"
)

// lifeline is a pipe that nothing is ever written to. Only this process has its write end: executed programs do not
// inherit it, and forked children close it (sys.Register). So its read end, which the children have, comes to its end
// exactly when this process is gone, however it went.
type lifeline struct {
	read, write *sys.FD
}

// open makes the pipe if there is none.
func (l *lifeline) open() (err error) {
	if l.read != nil {
		return nil
	}
	l.read, l.write, err = sys.Pipe("lifeline")
	return err
}

func (l *lifeline) close() error { return errors.Join(l.read.Close(), l.write.Close()) }
