package prefork

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
	"github.com/goproc/goproc/core/trace"
	"golang.org/x/sys/unix"
)

// server is one server, from its start until it is lost or stopped. There is never a second chance: a new one is
// another server.
type server struct {
	client *Client
	id     int // its own entry in the table
	pid    int
	traits string        // see RequestAlike
	exited chan struct{} // closed when its process has ended
	done   chan struct{} // closed when the reading goroutine has ended, and every request has its answer

	leaving []int // when done: the entries of those that stood by, and end now

	// sending is held while the socket is written to, which can take a while, and to close it. mu must not be held
	// for that: the server may be waiting for us to read.
	sending sync.Mutex
	socket  *sys.FD

	mu       sync.Mutex
	err      error // why it is lost; nil while it is not
	stopping bool
	waiting  []*request            // for which there was none that stood by, the oldest first
	standbys []*standby            // the oldest first
	ended    int                   // how many have ended while they stood by; the server is told with the next request
	children map[int]int           // the fork server's processes whose status is not yet in: from pids to entries
	pings    map[int]chan struct{} // not yet answered
}

// standby is a process that the server has forked ahead. It waits for its order, which makes it what is asked for.
type standby struct {
	id     int // its entry
	socket *sys.FD
}

// maxStandbys is how many there are at most: requests that are abandoned leave some over.
const maxStandbys = 4

func newServer(c *Client, id, pid int, socket *sys.FD, traits string) *server {
	return &server{
		client: c, id: id, pid: pid, socket: socket, traits: traits,
		exited: make(chan struct{}), done: make(chan struct{}),
		children: map[int]int{}, pings: map[int]chan struct{}{},
	}
}

// start subscribes to the server's end and starts reading.
func (s *server) start() error {
	go s.read()
	// The end of the socket would tell too, unless a process that the server has forked still has it open.
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

// lose gives the server up, for the reason of the first call. The reading goroutine does the rest, once it has read
// what the server had sent.
func (s *server) lose(why error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.giveUp(why)
	sys.Shutdown(s.socket)
}

// leave gives the server up, but has the reader go on until the other end of the socket is closed: what the server
// forks while it ends has yet to say who it is. It should not take long.
func (s *server) leave(why error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.giveUp(why)
	if s.socket.Lost() {
		// The reader waits for the other end, which only the end of the server closes.
		_ = s.client.table.Signal(s.id, int(unix.SIGKILL))
	}
	go func() {
		if !sys.WaitClosed(s.done, leavePatience) {
			sys.Shutdown(s.socket)
		}
	}()
}

// giveUp keeps the reason, if it is the first. s is locked.
func (s *server) giveUp(why error) {
	if s.err == nil {
		s.err = fmt.Errorf("%w: the %s (process %d) was lost: %w", ErrGone, s.client.name, s.pid, why)
		trace.Printf("%s %d is given up: %v", s.client.name, s.pid, why)
	}
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

// unlessLost changes what is open, or says why the server is lost.
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
		_ = s.send(requestStop, 0) // the end of the socket says it too
	}
	s.leave(errors.New("it was stopped"))
}

// stop ends the server and waits until it is gone.
func (s *server) stop() error {
	s.retire()
	<-s.done
	for _, id := range s.leaving {
		left := make(chan struct{})
		if s.client.table.OnExit(id, func(int) { close(left) }) == nil { // else it is gone
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

// read takes in what the server says, until it is lost.
func (s *server) read() {
	defer guard.Goroutine("the reader of a server that forks")
	defer close(s.done)
	defer s.cleanUp()
	buffer := make([]byte, messageSize+1) // one more, to see a message that is too long
	for {
		n, passed, err := sys.Receive(s.socket, buffer)
		if errors.Is(err, unix.ECONNRESET) {
			// Said once, of a server that has ended before it had read all. What it had sent before is still to come.
			s.leave(errors.New("it has not read all that it was sent"))
			continue
		}
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
	for r := s.dequeue(); r != nil; r = s.dequeue() {
		r.answer(0, s.err)
	}
	for _, id := range s.children {
		s.client.table.Orphan(id)
	}
	for _, b := range s.standbys {
		s.leaving = append(s.leaving, b.id)
		b.dismiss(s.client.table)
	}
	s.children, s.standbys = nil, nil
	if !s.stopping {
		// Whatever it was, it must not go on forking.
		_ = s.client.table.Signal(s.id, int(unix.SIGKILL))
	}
	s.client.table.Forget(s.id)
}

// take takes in one message, and the descriptors that came with it. truncated says that some of it is missing.
func (s *server) take(packet []byte, passed []*sys.FD, truncated bool) error {
	m, err := Decode(packet)
	expected := 0
	if m.Kind == Standby && !truncated {
		expected = 2
	}
	if err == nil && len(passed) != expected && !truncated {
		err = fmt.Errorf("%w: %d descriptors with a message of kind %d", errProtocol, len(passed), m.Kind)
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	if err == nil && !s.open(m) {
		err = fmt.Errorf("%w: a message of kind %d about %d, which is not open", errProtocol, m.Kind, max(m.PID, m.ID))
	}
	if err != nil {
		return errors.Join(err, closeAll(passed))
	}
	switch m.Kind {
	case Standby:
		if truncated {
			s.refuse(m.PID, passed)
		} else {
			s.accept(m.PID, passed[0], passed[1])
		}
	case Failed:
		if r := s.dequeue(); r != nil {
			r.answer(0, fmt.Errorf("fork in the %s: %w", s.client.name, syscall.Errno(m.Errno)))
		}
	case Exited:
		id := s.children[m.PID]
		delete(s.children, m.PID)
		s.client.table.Exited(id, m.Status)
	case Pong:
		close(s.pings[m.ID])
		delete(s.pings, m.ID)
	}
	return nil
}

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

// foreign reports whether the processes are the server's children, not ours.
func (s *server) foreign() bool { return s.client.method == process.Forkserver }

// open reports whether the message is about something that the server knows of. s is locked.
func (s *server) open(m Message) (ok bool) {
	switch m.Kind {
	case Standby:
		_, known := s.children[m.PID]
		ok = !known
	case Exited:
		_, ok = s.children[m.PID]
	case Pong:
		_, ok = s.pings[m.ID]
	case Failed:
		ok = true // the request may have been abandoned
	}
	return ok
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

// dismiss ends one that stands by, and waits for that in the table.
func (b *standby) dismiss(table *process.Table) {
	_ = b.socket.Close()
	table.Forget(b.id)
}

func closeAll(fds []*sys.FD) error {
	var errs []error
	for _, f := range fds {
		errs = append(errs, f.Close())
	}
	return errors.Join(errs...)
}
