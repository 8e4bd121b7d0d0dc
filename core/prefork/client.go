// Package prefork is the client of the fork server and the spawn server: it starts a server, takes on the processes
// that it forks, gives them to requests, and stops it. Package pybind calls it through core/engine;
// python/goproc/_start/prefork.py is the other side.
//
// A server is a Python process without Go and with one thread. It has one end of a private socket pair. No other
// process can connect, and the server ends when the socket closes. It forks processes that stand by until they are
// needed:
//
//	        ◄──STANDBY pid + pidfd, socket── server ──fork──► process, which stands by
//	Request ──order + descriptors────────────────────────────► the process, which goes on
//	        ──TAKEN──► server, which forks another process
//
// If no process stands by, the client asks for one by FORK. When the next STANDBY comes, its process gets the oldest
// waiting request. So a process does no work before the client knows it. A process that stands by ends by itself when
// no process has the other end of its socket.
//
// There are two kinds of server. The processes of the fork server are its children, and it says how they have ended
// (EXITED). The processes of the spawn server are siblings of it: children of this process, as if this process had
// executed an interpreter for each. They send STANDBY themselves, and the server sends FORKED: see expect.go.
//
// For each server, one goroutine reads the socket. When the server is gone, requests without a process fail. The fork
// server's processes whose status it has not sent get process.Unknown when they end.
package prefork

import (
	"errors"
	"fmt"
	"maps"
	"slices"
	"strconv"
	"strings"
	"sync"
	"time"

	"github.com/goproc/goproc/core/process"
	"github.com/goproc/goproc/core/sys"
	"github.com/goproc/goproc/core/trace"
	"golang.org/x/sys/unix"
)

// ErrGone is wrapped by errors that say that the server is not there, or was lost.
var ErrGone = errors.New("there is no server")

// How long the server may take.
const (
	sendPatience  = 10 * time.Second // to make room for a request in the socket; it may be forking, or stopped
	leavePatience = time.Second      // to close the socket, once it was told to end or has ended; then nobody waits for that
	latePatience  = time.Minute      // to close it after that; a process that it has forked may have it open, too
	stopPatience  = time.Second      // to end after that; then it is killed
	killPatience  = 2 * time.Second  // to be gone after it was killed
)

// Client stands for the server of one start method: an engine has one such server at a time, or none. Its methods may
// be called from any goroutine.
type Client struct {
	table  *process.Table
	method process.Method
	name   string // of the server, in errors

	changing sync.Mutex // held by Ensure and Stop: one at a time starts or stops a server

	mu       sync.Mutex
	server   *server          // nil if none runs
	alive    map[*server]bool // servers whose own process has not ended, the lost ones included
	requests map[int]*request // by ticket: made by Request, and their outcome not yet returned by Reply
	tickets  int              // how many requests there were; the last one's number
	pings    int              // how many pings there were; the last one's number
}

// New makes a client without a server. The method is process.Forkserver or process.Spawn.
func New(table *process.Table, method process.Method) *Client {
	name := map[process.Method]string{process.Forkserver: "fork server", process.Spawn: "spawn server"}[method]
	return &Client{table: table, method: method, name: name, alive: map[*server]bool{}, requests: map[int]*request{}}
}

// Ensure starts a server with the command, unless one runs, and returns the server's process number. The command's last
// argument, after those given, is the number of the server's end of the socket.
func (c *Client) Ensure(command process.Command) (pid int, err error) {
	c.changing.Lock()
	defer c.changing.Unlock()
	return c.ensure(command, "")
}

// spawn starts the server's process with SIGINT blocked. Without that, Ctrl-C would end it before it ignores SIGINT.
func (c *Client) spawn(command process.Command) (id int, err error) {
	defer sys.Block(unix.SIGINT)()
	return c.table.Spawn(process.Server, command)
}

// ensure is Ensure for a server with these traits. A running server with other traits is told to end. c.changing is
// held.
func (c *Client) ensure(command process.Command, traits string) (pid int, err error) {
	if s := c.current(); s != nil {
		switch {
		case !s.runs():
			s.leave(errors.New("it has ended"))
			<-s.done
		case s.traits == traits:
			return s.pid, nil
		default:
			s.retire()
			<-s.done
		}
	}
	ours, theirs, err := sys.Seqpacket(c.name + " socket")
	if err != nil {
		return 0, err
	}
	command.Argv = append(slices.Clone(command.Argv), strconv.Itoa(theirs.Int()))
	command.Keep = append(slices.Clone(command.Keep), theirs.Int())
	id, err := c.spawn(command)
	if closeErr := theirs.Close(); err == nil {
		err = closeErr
	}
	if err != nil {
		return 0, errors.Join(err, ours.Close())
	}
	if pid, err = c.table.Pid(id); err != nil {
		return 0, errors.Join(err, ours.Close())
	}
	s := newServer(c, id, pid, ours, traits)
	c.mu.Lock()
	c.server, c.alive[s] = s, true
	c.mu.Unlock()
	trace.Printf("%s %d was started", c.name, pid)
	if err := s.start(); err != nil {
		s.lose(err)
		return 0, err
	}
	return pid, nil
}

// Pid is the server's process number, 0 when none runs.
func (c *Client) Pid() int {
	if s := c.current(); s != nil && s.runs() {
		return s.pid
	}
	return 0
}

func (c *Client) current() *server {
	c.mu.Lock()
	defer c.mu.Unlock()
	return c.server
}

// Ping asks the server for a sign of life and waits for it. If none comes in time, the error wraps ETIMEDOUT.
func (c *Client) Ping(patience time.Duration) error {
	c.mu.Lock()
	s := c.server
	c.pings++
	id := c.pings
	c.mu.Unlock()
	if s == nil {
		return ErrGone
	}
	return s.ping(id, patience)
}

// Request asks the server for a process, which gets copies of the descriptors fds. It returns at once, with a ticket:
// the request's number. Reply, with that ticket, has the outcome; if nobody calls it, Abandon must be called.
func (c *Client) Request(fds []int) (ticket int, err error) {
	s := c.current()
	if s == nil {
		return 0, ErrGone
	}
	return c.request(s, fds, encodeOrder(fds, false, 0))
}

// RequestAlike is Request for a process that is as if the calling thread executed the command now. The process has the
// descriptors fds, under the numbers that they have here, the standard streams, and the thread's signal mask. The
// running server is used if it was started by an equal command in equal circumstances. If not, it is replaced by
// another server. If the circumstances cannot be compared now, the error wraps ENOTSUP; if they never can, ENOSYS. In
// both cases the caller must execute the command.
func (c *Client) RequestAlike(command process.Command, fds []int) (ticket int, err error) {
	now, err := sys.ReadCircumstances()
	if err != nil {
		return 0, err
	}
	const interrupt = 1 << 1 // SIGINT is 2
	order := append(slices.Clone(fds), sys.StandardStreams()...)
	ignored := now.Ignored &^ interrupt
	traits := strings.Join(slices.Concat(command.Argv, []string{""}, command.Env, []string{now.Rest}), "\x00")

	c.changing.Lock()
	defer c.changing.Unlock()
	for range 2 {
		if _, err := c.ensure(command, fmt.Sprint(ignored, traits)); err != nil {
			return 0, err
		}
		s := c.current()
		if s == nil {
			return 0, ErrGone
		}
		if !now.Proof || sys.SharesDomain(s.pid) {
			return c.request(s, order, encodeOrder(order, now.Ignored&interrupt != 0, now.Blocked))
		}
		s.retire() // the thread has entered a Landlock domain since
		<-s.done
	}
	return 0, fmt.Errorf("compare the Landlock domains of this thread and the %s: %w", c.name, unix.ENOSYS)
}

func (c *Client) request(s *server, fds []int, order []byte) (ticket int, err error) {
	if len(fds) > sys.MaxPassed {
		return 0, fmt.Errorf("%w: too many fds: a process can be given %d", process.ErrInvalid, sys.MaxPassed)
	}
	r := &request{server: s, order: order, fds: slices.Clone(fds), answered: make(chan struct{})}
	if err := s.request(r); err != nil {
		return 0, err
	}
	c.mu.Lock()
	defer c.mu.Unlock()
	c.tickets++
	c.requests[c.tickets] = r
	return c.tickets, nil
}

// Reply waits for the answer to a request, at most for patience. It returns the id of the process's entry, or 0 when
// there is no answer yet. After an error there is no process; ErrGone means that the server ended before there was one.
func (c *Client) Reply(ticket int, patience time.Duration) (id int, err error) {
	c.mu.Lock()
	r := c.requests[ticket]
	c.mu.Unlock()
	if r == nil {
		return 0, fmt.Errorf("%w: there is no request %d", process.ErrInvalid, ticket)
	}
	if !sys.WaitClosed(r.answered, patience) {
		return 0, nil
	}
	c.mu.Lock()
	defer c.mu.Unlock()
	delete(c.requests, ticket)
	return r.id, r.err
}

// Abandon says that nobody will ask for the reply any more. If the request gets a process, now or later, that process
// is ended.
func (c *Client) Abandon(ticket int) {
	c.mu.Lock()
	r := c.requests[ticket]
	delete(c.requests, ticket)
	c.mu.Unlock()
	if r != nil {
		r.server.abandon(r)
	}
}

// Stop ends the server, if one runs, and returns when it is gone. If it does not end within a while, it is killed. Its
// processes go on.
func (c *Client) Stop() error {
	c.changing.Lock()
	defer c.changing.Unlock()
	c.mu.Lock()
	alive := slices.Collect(maps.Keys(c.alive))
	c.mu.Unlock()
	var errs []error
	for _, s := range alive {
		errs = append(errs, s.stop())
	}
	return errors.Join(errs...)
}

// lost notes that the server can no longer be used, so that the next Ensure starts another one.
func (c *Client) lost(s *server) {
	c.mu.Lock()
	defer c.mu.Unlock()
	if c.server == s {
		c.server = nil
	}
}

// ended notes that the server's process has ended, so that Stop need not wait for it.
func (c *Client) ended(s *server) {
	c.mu.Lock()
	defer c.mu.Unlock()
	delete(c.alive, s)
}
