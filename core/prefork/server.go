package prefork

import (
	"errors"
	"fmt"
	"sync"
	"time"

	"github.com/goproc/goproc/core/process"
	"github.com/goproc/goproc/core/sys"
	"github.com/goproc/goproc/core/trace"
	"golang.org/x/sys/unix"
)

// server is one server, from its start until it is lost or stopped. It is never started again: a new process is another
// server.
type server struct {
	client *Client
	id     int // its own entry in the table
	pid    int
	traits string        // see RequestAlike
	exited chan struct{} // closed when its process has ended
	done   chan struct{} // closed when it is settled: every request has its answer, and no process will stand by any more
	read   chan struct{} // closed when the reading goroutine has ended

	settling sync.Once

	leaving []int // set before done is closed: the entries of processes that stood by, and end now

	// sending is held while the socket is written to, which can take a while, and while it is closed. mu must not be
	// held meanwhile: the server may be waiting until the reader reads, and the reader needs mu.
	sending sync.Mutex
	socket  *sys.FD

	mu       sync.Mutex
	err      error // why it is lost; nil while it is not
	stopping bool
	waiting  []*request            // requests that wait for a process, the oldest first
	standbys []*standby            // the oldest first
	ended    int                   // how many ended while they stood by; the server is told this with the next request
	children map[int]int           // the fork server's processes whose status has not come yet: from pid to entry
	pings    map[int]chan struct{} // pings that are not yet answered
	expected map[int]bool          // the spawn server's processes that have not sent STANDBY, see expect.go
	early    map[int]bool          // those that have sent STANDBY before the server sent FORKED
	reaped   map[int]bool          // those that were ended when the server was settled, or since; nil before
	looking  bool                  // a goroutine looks for the expected ones
}

func newServer(c *Client, id, pid int, socket *sys.FD, traits string) *server {
	return &server{
		client: c, id: id, pid: pid, socket: socket, traits: traits,
		exited: make(chan struct{}), done: make(chan struct{}), read: make(chan struct{}),
		children: map[int]int{}, pings: map[int]chan struct{}{},
		expected: map[int]bool{}, early: map[int]bool{},
	}
}

// start starts the reader, and has the table tell when the server's process has ended.
func (s *server) start() error {
	go s.readAll()
	// The socket alone does not tell: a process that the server has forked may still have its end open.
	return s.client.table.OnExit(s.id, func(status int) {
		close(s.exited)
		s.client.ended(s)
		s.leave(fmt.Errorf("it ended with exit code %d", status))
	})
}

// runs reports whether the server can be used.
func (s *server) runs() bool {
	s.mu.Lock()
	lost := s.err != nil || s.socket.Lost()
	s.mu.Unlock()
	code, err := s.client.table.ExitCode(s.id)
	return !lost && err == nil && code == process.Running
}

// foreign reports whether the processes are the server's children, not children of this process.
func (s *server) foreign() bool { return s.client.method == process.Forkserver }

// lose gives the server up, for the reason of the first call. The reading goroutine does the rest, once it has read
// what the server had sent.
func (s *server) lose(why error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.giveUp(why)
	sys.Shutdown(s.socket)
}

// leave gives the server up, but has the reader go on until the other end of the socket is closed: a process that the
// server forks while it ends still sends STANDBY. That should not take long; after leavePatience the server is settled,
// and nothing more is sent to it. On a busy machine this time may pass before the server, or such a process, gets a
// processor. The reader goes on for them: a process of the spawn server is a child of this process, and has to be reaped.
func (s *server) leave(why error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.giveUp(why)
	if s.socket.Lost() {
		// The program has closed the engine's end. The reader waits until the server closes its own, so it is killed.
		_ = s.client.table.Signal(s.id, int(unix.SIGKILL))
	}
	go func() {
		if sys.WaitClosed(s.done, leavePatience) {
			return
		}
		if !s.foreign() {
			sys.ShutdownSending(s.socket)
			s.settle()
			if sys.WaitClosed(s.read, latePatience) {
				return
			}
		}
		sys.Shutdown(s.socket)
	}()
}

// giveUp notes why the server is lost, unless a reason has been noted already. s is locked.
func (s *server) giveUp(why error) {
	if s.err == nil {
		s.err = fmt.Errorf("%w: the %s (process %d) was lost: %w", ErrGone, s.client.name, s.pid, why)
		trace.Printf("%s %d is given up: %v", s.client.name, s.pid, why)
	}
}

// unlessLost calls change with s locked. If the server is lost, it returns the reason instead.
func (s *server) unlessLost(change func() error) error {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.err != nil {
		return s.err
	}
	return change()
}

// send sends a message to the server.
func (s *server) send(request, value int) error {
	s.sending.Lock()
	defer s.sending.Unlock()
	err := sys.Send(s.socket, encodeRequest(request, value), nil, sendPatience)
	if errors.Is(err, unix.EPIPE) || errors.Is(err, unix.ECONNRESET) || errors.Is(err, unix.EBADF) {
		return fmt.Errorf("%w: the %s (process %d) has ended, or cannot be reached any more", ErrGone, s.client.name, s.pid)
	}
	return err
}

// ping asks for a sign of life, and waits for it.
func (s *server) ping(id int, patience time.Duration) error {
	answered := make(chan struct{})
	if err := s.unlessLost(func() error { s.pings[id] = answered; return nil }); err != nil {
		return err
	}
	if err := s.send(requestPing, id); err != nil {
		_ = s.unlessLost(func() error { delete(s.pings, id); return nil })
		return err
	}
	either := make(chan struct{})
	given := make(chan struct{})
	go func() {
		defer close(either)
		select {
		case <-answered:
		case <-s.done:
		case <-given:
		}
	}()
	defer func() {
		close(given)
		<-either
	}()
	if !sys.WaitClosed(either, patience) {
		// The ping stays known: a late answer is still an answer to it.
		return fmt.Errorf("the %s (process %d) does not answer: %w", s.client.name, s.pid, unix.ETIMEDOUT)
	}
	select {
	case <-answered:
		return nil
	default:
		return s.unlessLost(func() error { return nil })
	}
}

// retire tells the server to end.
func (s *server) retire() {
	if err := s.unlessLost(func() error { s.stopping = true; return nil }); err == nil {
		_ = s.send(requestStop, 0) // if this fails, the server ends when the socket does
	}
	s.leave(errors.New("it was stopped"))
}

// stop ends the server and waits until it is gone.
func (s *server) stop() error {
	s.retire()
	<-s.done
	for _, id := range s.leaving {
		left := make(chan struct{})
		if s.client.table.OnExit(id, func(int) { close(left) }) == nil { // an error means that it is gone already
			sys.WaitClosed(left, killPatience)
		}
	}
	if sys.WaitClosed(s.exited, stopPatience) {
		return nil
	}
	_ = s.client.table.Signal(s.id, int(unix.SIGKILL))
	if !sys.WaitClosed(s.exited, killPatience) {
		return fmt.Errorf("the %s (process %d) does not end: %w", s.client.name, s.pid, unix.ETIMEDOUT)
	}
	return nil
}
