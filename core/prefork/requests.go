package prefork

import (
	"fmt"
	"slices"

	"github.com/goproc/goproc/core/sys"
	"golang.org/x/sys/unix"
)

// The requests for processes. The client makes them. Each is given a process that stands by (standbys.go). If there is
// none, the request waits until the server's reader gives it one.

// request is one request for a process.
type request struct {
	server   *server
	order    []byte
	fds      []int         // for the process: the caller's descriptors, or, while the request waits, those of own
	own      []*sys.FD     // duplicates of the caller's descriptors, which the request owns while it waits
	answered chan struct{} // closed when id and err have been set
	id       int           // of the process's entry
	err      error
}

// request gives the request a process that stands by. If there is none, the request waits, and the server is told to
// fork a process.
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
	// If the server cannot be told, it is gone. Then the reader answers the requests that wait.
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

// enqueue has the request wait. It duplicates the descriptors, because the caller may close them meanwhile. s is
// locked.
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

// dequeue removes the oldest waiting request and returns it; nil if none waits. s is locked.
func (s *server) dequeue() (r *request) {
	if len(s.waiting) > 0 {
		r, s.waiting = s.waiting[0], s.waiting[1:]
	}
	return r
}

// abandon removes the request if it waits, and ends its process if it has one.
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

// release closes the descriptors that the request owns.
func (r *request) release() {
	_ = closeAll(r.own)
	r.own = nil
}
