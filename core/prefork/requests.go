package prefork

import (
	"fmt"
	"slices"

	"github.com/goproc/goproc/core/sys"
	"golang.org/x/sys/unix"
)

// The requests for processes. The client makes them. Each is given a process that stands by (standbys.go), or waits until
// the server's reader has one for it.

// request is a process that was asked for.
type request struct {
	server   *server
	order    []byte
	fds      []int         // the caller's, or while it waits for a process, its own
	own      []*sys.FD     // these
	answered chan struct{} // closed when the rest holds
	id       int           // of the process's entry
	err      error
}

// request gives the request a process that stands by, or else has it wait for the next one, which the server is told to
// fork.
func (s *server) request(r *request) error {
	var given bool
	var ended int
	err := s.unlessLost(func() error {
		for !given && len(s.standbys) > 0 {
			b := s.standbys[0]
			s.standbys = s.standbys[1:]
			if given = s.give(b, r); !given {
				s.ended++
				b.dismiss(s.client.table)
			}
		}
		ended, s.ended = s.ended, 0
		if given {
			return r.err
		}
		return s.enqueue(r)
	})
	if err != nil {
		return err
	}
	// If the server cannot be told, it is gone. Then whoever notices that answers those that wait.
	if !given {
		err = s.send(requestFork, 0)
	}
	if taken := ended + map[bool]int{true: 1}[given]; taken > 0 && err == nil {
		_ = s.send(requestTaken, taken)
	}
	if err != nil {
		s.abandon(r)
	}
	return err
}

// enqueue has the request wait, with descriptors of its own: the caller may close its own meanwhile. s is locked.
func (s *server) enqueue(r *request) error {
	for _, fd := range r.fds {
		duplicate, err := unix.FcntlInt(uintptr(fd), unix.F_DUPFD_CLOEXEC, 3)
		if err != nil {
			r.release()
			return fmt.Errorf("descriptor %d for a process: %w", fd, err)
		}
		r.own = append(r.own, sys.NewFD(duplicate, "descriptor for a process"))
	}
	for i, f := range r.own {
		r.fds[i] = f.Int()
	}
	s.waiting = append(s.waiting, r)
	return nil
}

// dequeue takes the oldest request out that waits, nil if there is none. s is locked.
func (s *server) dequeue() (r *request) {
	if len(s.waiting) > 0 {
		r, s.waiting = s.waiting[0], s.waiting[1:]
	}
	return r
}

// abandon takes the request out if it waits, and ends its process if it has one.
func (s *server) abandon(r *request) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if i := slices.Index(s.waiting, r); i >= 0 {
		s.waiting = slices.Delete(s.waiting, i, i+1)
		r.answer(0, ErrGone)
		return
	}
	if r.id != 0 {
		_ = s.client.table.Signal(r.id, int(unix.SIGKILL))
		s.client.table.Forget(r.id)
	}
}

// answer ends the wait for a reply.
func (r *request) answer(id int, err error) {
	r.release()
	r.id, r.err = id, err
	close(r.answered)
}

// release closes the descriptors that are the request's own.
func (r *request) release() {
	_ = closeAll(r.own)
	r.own = nil
}
