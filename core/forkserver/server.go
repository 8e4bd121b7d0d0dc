package forkserver

import (
	"errors"
	"fmt"
	"slices"
	"sync"
	"syscall"
	"time"

	"github.com/goproc/goproc/core/guard"
	"github.com/goproc/goproc/core/process"
	"github.com/goproc/goproc/core/sys"
	"golang.org/x/sys/unix"
)

// server is one fork server, from its start until it is lost or stopped. There is never a second chance: a new one is
// another server.
type server struct {
	client *Client
	id     int // its own entry in the table
	pid    int
	exited chan struct{} // closed when its process has ended
	done   chan struct{} // closed when the reading goroutine has ended, and every request has its answer

	// sending is held while the socket is written to, which can take a while, and to close it. mu must not be held
	// for that: the server may be waiting for us to read.
	sending sync.Mutex
	socket  *sys.FD

	mu       sync.Mutex
	err      error // why it is lost; nil while it is not
	stopping bool
	requests map[int]*request      // not yet answered
	children map[int]struct{}      // started, status not yet in
	pings    map[int]chan struct{} // not yet answered
	standbys []*standby            // the oldest first
}

// standby is a process that the server has forked ahead. It waits for its descriptors, which make it what is asked for.
type standby struct {
	pid           int
	pidfd, socket *sys.FD
}

// maxStandbys is how many a server can have: it never comes near that.
const maxStandbys = 64

func newServer(c *Client, id, pid int, socket *sys.FD) *server {
	return &server{
		client: c, id: id, pid: pid, socket: socket,
		exited: make(chan struct{}), done: make(chan struct{}),
		requests: map[int]*request{}, children: map[int]struct{}{}, pings: map[int]chan struct{}{},
	}
}

// start subscribes to the server's end and starts reading.
func (s *server) start() error {
	go s.read()
	// The end of the socket would tell too, unless a process that the server has forked still has it open.
	return s.client.table.OnExit(s.id, func(status int) {
		close(s.exited)
		s.client.ended(s)
		s.lose(fmt.Errorf("it ended with exit code %d", status))
	})
}

// runs reports whether the server can be used.
func (s *server) runs() bool {
	s.mu.Lock()
	lost := s.err != nil
	s.mu.Unlock()
	code, err := s.client.table.ExitCode(s.id)
	return !lost && err == nil && code == process.Running
}

// lose gives the server up, for the reason of the first call. The reading goroutine does the rest, once it has read
// what the server had sent.
func (s *server) lose(why error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.err == nil {
		s.err = fmt.Errorf("%w: the fork server (process %d) was lost: %w", ErrGone, s.pid, why)
		sys.Shutdown(s.socket)
	}
}

// request has the process id started: by one that stands by, or else by the server.
func (s *server) request(id int, r *request, fds []int) error {
	for {
		b, err := s.takeStandby(id)
		if err != nil {
			return err
		}
		if b == nil {
			return s.requestStart(id, r, fds)
		}
		err = sys.Send(b.socket, []byte{0}, fds, 0)
		if err == nil {
			r.answer(s.client.table.Adopt(id, b.pid, b.pidfd))
			// If the server cannot be told, it is gone. Then whoever notices that lets the process go on without it.
			_ = s.send(requestTaken, id, b.pid, nil)
			return b.socket.Close()
		}
		// If somebody has ended it, the next one will do. If it cannot be sent the descriptors, nobody can.
		ended := errors.Is(err, unix.EPIPE) || errors.Is(err, unix.ECONNRESET)
		lost := s.unlessLost(func() {
			delete(s.children, id)
			if !ended {
				s.standbys = append(s.standbys, b)
			}
		})
		if ended || lost != nil {
			_ = b.close()
		}
		if !ended {
			return err
		}
	}
}

// takeStandby takes one that stands by for the process id, nil if there is none.
func (s *server) takeStandby(id int) (b *standby, err error) {
	err = s.unlessLost(func() {
		if len(s.standbys) > 0 {
			b, s.standbys = s.standbys[0], s.standbys[1:]
			s.children[id] = struct{}{}
		}
	})
	return b, err
}

// requestStart asks the server to start the process id.
func (s *server) requestStart(id int, r *request, fds []int) error {
	if err := s.unlessLost(func() { s.requests[id] = r }); err != nil {
		return err
	}
	err := s.send(requestStart, id, 0, fds)
	if err != nil {
		_ = s.unlessLost(func() { delete(s.requests, id) })
	}
	return err
}

// unlessLost changes what is open, or says why the server is lost.
func (s *server) unlessLost(change func()) error {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.err != nil {
		return s.err
	}
	change()
	return nil
}

// send sends a message to the server.
func (s *server) send(request uint32, id, pid int, fds []int) error {
	s.sending.Lock()
	defer s.sending.Unlock()
	err := sys.Send(s.socket, encodeRequest(request, id, pid), fds, sendPatience)
	if errors.Is(err, unix.EPIPE) || errors.Is(err, unix.ECONNRESET) || errors.Is(err, unix.EBADF) && s.socket.Int() < 0 {
		return fmt.Errorf("%w: the fork server (process %d) has ended", ErrGone, s.pid)
	}
	return err
}

// ping asks for a sign of life, and waits for it.
func (s *server) ping(id int, patience time.Duration) error {
	answered := make(chan struct{})
	if err := s.unlessLost(func() { s.pings[id] = answered }); err != nil {
		return err
	}
	if err := s.send(requestPing, id, 0, nil); err != nil {
		_ = s.unlessLost(func() { delete(s.pings, id) })
		return err
	}
	timer := time.NewTimer(patience)
	defer timer.Stop()
	select {
	case <-answered:
		return nil
	case <-s.done:
		return s.unlessLost(func() {})
	case <-timer.C:
		// The ping stays known: a late answer is still an answer to it.
		return fmt.Errorf("the fork server (process %d) does not answer: %w", s.pid, unix.ETIMEDOUT)
	}
}

// stop ends the server and waits until it is gone.
func (s *server) stop() error {
	if err := s.unlessLost(func() { s.stopping = true }); err == nil {
		_ = s.send(requestStop, 0, 0, nil) // the end of the socket says it too
	}
	s.lose(errors.New("it was stopped"))
	<-s.done
	if wait(s.exited, stopPatience) {
		return nil
	}
	_ = s.client.table.Signal(s.id, int(unix.SIGKILL))
	if !wait(s.exited, killPatience) {
		return fmt.Errorf("the fork server (process %d) does not end: %w", s.pid, unix.ETIMEDOUT)
	}
	return nil
}

// wait waits for the channel to be closed, and reports whether it was in time.
func wait(closed <-chan struct{}, patience time.Duration) bool {
	timer := time.NewTimer(patience)
	defer timer.Stop()
	select {
	case <-closed:
		return true
	case <-timer.C:
		return false
	}
}

// read takes in what the server says, until it is lost.
func (s *server) read() {
	defer guard.Goroutine("the fork server's reader")
	defer close(s.done)
	defer s.cleanUp()
	buffer := make([]byte, messageSize+1) // one more, to see a message that is too long
	for {
		n, passed, err := sys.Receive(s.socket, buffer)
		if n == 0 || err != nil && !errors.Is(err, sys.ErrTruncated) {
			s.lose(errors.Join(errors.New("its end of the socket is closed"), err, closeAll(passed)))
			return
		}
		if err := s.take(buffer[:n], passed, err != nil); err != nil {
			s.lose(err)
			return
		}
	}
}

// cleanUp answers all that is open, once nothing more will be read.
func (s *server) cleanUp() {
	s.lose(errors.New("its reader failed")) // says nothing new unless the reader has panicked
	s.client.lost(s)
	s.sending.Lock()
	_ = s.socket.Close()
	s.sending.Unlock()
	s.mu.Lock()
	defer s.mu.Unlock()
	for id, r := range s.requests {
		_ = s.client.table.Abort(id)
		r.answer(0, s.err)
	}
	for id := range s.children {
		s.client.table.Orphan(id)
	}
	for _, b := range s.standbys {
		_ = b.close() // that ends it
	}
	s.requests, s.children, s.standbys = nil, nil, nil
	if !s.stopping {
		// Whatever it was, it must not go on forking.
		_ = s.client.table.Signal(s.id, int(unix.SIGKILL))
	}
	s.client.table.Forget(s.id)
}

// descriptors is how many come with a message.
var descriptors = map[Kind]int{Started: 1, Standby: 2}

// take takes in one message, and the descriptors that came with it. truncated says that some of it is missing.
func (s *server) take(packet []byte, passed []*sys.FD, truncated bool) error {
	m, err := Decode(packet)
	expected := descriptors[m.Kind]
	if truncated {
		expected = len(passed)
	}
	if err == nil && len(passed) != expected {
		err = fmt.Errorf("%w: %d descriptors with a message of kind %d", errProtocol, len(passed), m.Kind)
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	if err == nil && !s.open(m) {
		err = fmt.Errorf("%w: a message of kind %d about %d, which is not open", errProtocol, m.Kind, m.ID)
	}
	if err != nil {
		return errors.Join(err, closeAll(passed))
	}
	switch m.Kind {
	case Started:
		r := s.requests[m.ID]
		delete(s.requests, m.ID)
		s.children[m.ID] = struct{}{}
		if truncated {
			_ = closeAll(passed)
			// The kernel drops a descriptor when this process may open no more. The server may have reaped the
			// process by now, but its number is not given out again so soon.
			_ = unix.Kill(m.PID, unix.SIGKILL)
			_ = s.client.table.Abort(m.ID)
			r.answer(0, fmt.Errorf("receive the pidfd of process %d: %w", m.PID, unix.EMFILE))
			break
		}
		r.answer(s.client.table.Adopt(m.ID, m.PID, passed[0]))
	case Failed:
		r := s.requests[m.ID]
		delete(s.requests, m.ID)
		_ = s.client.table.Abort(m.ID)
		r.answer(0, fmt.Errorf("fork in the fork server: %w", syscall.Errno(m.Errno)))
	case Exited:
		delete(s.children, m.ID)
		s.client.table.Exited(m.ID, m.Status)
	case Pong:
		close(s.pings[m.ID])
		delete(s.pings, m.ID)
	case Standby:
		if truncated {
			return closeAll(passed) // without a socket it ends
		}
		s.standbys = append(s.standbys, &standby{m.PID, passed[0], passed[1]})
	case Gone:
		if i := s.standby(m.PID); i >= 0 { // else it was taken, and then it is said to have exited
			b := s.standbys[i]
			s.standbys = slices.Delete(s.standbys, i, i+1)
			return b.close()
		}
	}
	return nil
}

// standby is the index of the one with that number, -1 if there is none.
func (s *server) standby(pid int) int {
	return slices.IndexFunc(s.standbys, func(b *standby) bool { return b.pid == pid })
}

// open reports whether the message is about something that the server was asked for. s is locked.
func (s *server) open(m Message) (ok bool) {
	switch m.Kind {
	case Started, Failed:
		_, ok = s.requests[m.ID]
	case Exited:
		_, ok = s.children[m.ID]
	case Pong:
		_, ok = s.pings[m.ID]
	case Standby:
		ok = len(s.standbys) < maxStandbys && s.standby(m.PID) < 0
	case Gone:
		ok = true
	}
	return ok
}

// answer ends the wait for a reply.
func (r *request) answer(sentinel int, err error) {
	r.sentinel, r.err = sentinel, err
	close(r.answered)
}

func (b *standby) close() error { return errors.Join(b.pidfd.Close(), b.socket.Close()) }

func closeAll(fds []*sys.FD) error {
	var errs []error
	for _, f := range fds {
		errs = append(errs, f.Close())
	}
	return errors.Join(errs...)
}
