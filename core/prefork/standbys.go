package prefork

import (
	"errors"
	"fmt"
	"slices"

	"github.com/goproc/goproc/core/process"
	"github.com/goproc/goproc/core/sys"
	"github.com/goproc/goproc/core/trace"
	"golang.org/x/sys/unix"
)

// The processes that a server has forked ahead. The reader takes them on. A request gives one its order; the reader
// does, if the request had to wait.

// standby is a process that the server has forked ahead. It waits for its order, which makes it what is asked for.
type standby struct {
	id     int // its entry
	socket *sys.FD
}

// maxStandbys is how many there are at most: requests that are abandoned leave some over.
const maxStandbys = 4

// accept takes on a process that stands by, for the oldest request that waits, or for the next one. s is locked.
func (s *server) accept(pid int, pidfd, socket *sys.FD) {
	table, foreign := s.client.table, s.foreign()
	id, err := table.Adopt(pid, pidfd, foreign)
	if foreign {
		s.children[pid] = id // 0 if it is not to live: the server will say how it has ended all the same
	}
	if err != nil {
		_ = socket.Close()
		if r := s.dequeue(); r != nil {
			r.answer(0, err)
		}
		return
	}
	trace.Printf("process %d of the %s %d stands by", pid, s.client.name, s.pid)
	b := &standby{id, socket}
	_ = table.OnExit(id, func(int) { s.standbyEnded(b) })
	if r := s.dequeue(); r != nil {
		if !s.give(b, r) {
			s.employ(b, r) // it has ended before it could begin, as any process may
		}
		return
	}
	if len(s.standbys) == maxStandbys {
		b.dismiss(table)
		return
	}
	s.standbys = append(s.standbys, b)
}

// refuse ends a process whose descriptors the kernel has dropped, because this process may open no more. The server may
// have reaped it by now, but its number is not given out again so soon. s is locked.
func (s *server) refuse(pid int, passed []*sys.FD) {
	_ = closeAll(passed)
	if s.foreign() {
		s.children[pid] = 0
		_ = unix.Kill(pid, unix.SIGKILL)
	} else {
		sys.KillAndReap(pid)
	}
	if r := s.dequeue(); r != nil {
		r.answer(0, fmt.Errorf("receive the pidfd of process %d: %w", pid, unix.EMFILE))
	}
}

// give sends a process that stands by its order, and answers the request, unless the process has ended. s is locked:
// the order is the first thing that the socket takes, so there is room for it.
func (s *server) give(b *standby, r *request) (answered bool) {
	err := sys.Send(b.socket, r.order, r.fds, 0)
	if errors.Is(err, unix.EPIPE) || errors.Is(err, unix.ECONNRESET) || b.socket.Lost() {
		return false
	}
	if err != nil {
		// Nobody else can be sent these descriptors, and this one can be sent others.
		s.standbys = slices.Insert(s.standbys, 0, b)
		r.answer(0, err)
		return true
	}
	s.employ(b, r)
	return true
}

// employ answers the request with the process.
func (s *server) employ(b *standby, r *request) {
	_ = b.socket.Close()
	if trace.On() {
		pid, _ := s.client.table.Pid(b.id)
		trace.Printf("process %d of the %s %d was given its order", pid, s.client.name, s.pid)
	}
	r.answer(b.id, s.client.table.Employ(b.id, s.client.method))
}

// standbyEnded takes out one that has ended while it stood by.
func (s *server) standbyEnded(b *standby) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if i := slices.Index(s.standbys, b); i >= 0 {
		s.standbys = slices.Delete(s.standbys, i, i+1)
		s.ended++
		b.dismiss(s.client.table)
	}
}

// dismiss ends one that stands by, and waits for that in the table.
func (b *standby) dismiss(table *process.Table) {
	_ = b.socket.Close()
	table.Forget(b.id)
}
