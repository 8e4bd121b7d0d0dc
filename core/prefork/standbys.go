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

// The processes that a server has forked, and that stand by. The reader takes them on. A new request gives one of them
// its order. If the request had to wait, the reader gives the order.

// standby is a process that stands by: it waits for its order, which makes it the process that was asked for.
type standby struct {
	id     int // its entry
	socket *sys.FD
}

// maxStandbys is how many may stand by. The server keeps two; requests that are abandoned may leave some more.
const maxStandbys = 4

// accept takes on a process that stands by. It is for the oldest waiting request; if none waits, it stays for the next
// request. s is locked.
func (s *server) accept(pid int, pidfd, socket *sys.FD) {
	table, foreign := s.client.table, s.foreign()
	id, err := table.Adopt(pid, pidfd, foreign)
	if foreign {
		s.children[pid] = id // after an error 0: the process is ended, and the server will send its status all the same
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
			s.employ(b, r) // the process has ended already; to the caller it is one that ended at once
		}
		return
	}
	if len(s.standbys) == maxStandbys {
		b.dismiss(table)
		return
	}
	s.standbys = append(s.standbys, b)
}

// refuse ends a process whose descriptors the kernel has dropped, because this process may open no more. It is ended by
// its number. If the server has reaped it by now, the kernel does not give the number to another process so soon. s is
// locked.
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

// give sends the request's order to a process that stands by, and answers the request. It returns false, and answers
// nothing, if the process has ended. It does not wait for room in the socket: the order is the first message. s is
// locked.
func (s *server) give(b *standby, r *request) (answered bool) {
	err := sys.Send(b.socket, r.order, r.fds, 0)
	if errors.Is(err, unix.EPIPE) || errors.Is(err, unix.ECONNRESET) || b.socket.Lost() {
		return false
	}
	if err != nil {
		// The descriptors of this request cannot be sent, to any process. The process stays for the next request.
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

// standbyEnded removes a process that has ended while it stood by.
func (s *server) standbyEnded(b *standby) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if i := slices.Index(s.standbys, b); i >= 0 {
		s.standbys = slices.Delete(s.standbys, i, i+1)
		s.ended++
		b.dismiss(s.client.table)
	}
}

// dismiss ends a process that stands by, by closing the socket that it waits on. The table reaps it.
func (b *standby) dismiss(table *process.Table) {
	_ = b.socket.Close()
	table.Forget(b.id)
}
