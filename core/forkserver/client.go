// Package forkserver is the client of the fork server: it starts the server, asks it for processes, takes in what it
// says, and stops it. Package pybind calls it through core/engine; python/goproc/forkserver.py is the server.
//
// The server is a Python process without Go and with one thread, that forks when asked. It has one end of a private
// socket pair; no one else can connect, and it ends when the socket does.
//
//	Request ──START id + descriptors──► server ──fork──► process
//	Reply   ◄──STARTED id pid + pidfd──    │                │
//	table   ◄──EXITED id pid status──── waits for it ◄──────┘
//
// The server forks some ahead. While there is one that stands by, a start needs no answer from the server:
//
//	        ◄──STANDBY pid + pidfd, socket── server ──fork──► process, which waits
//	Request ──descriptors────────────────────────────────────► it, goes on
//	        ──TAKEN id pid──► server, which forks another one
//
// One goroutine a server reads the socket. When the server is gone, requests it has not answered fail, and processes
// whose status it has not sent get process.Unknown when they end.
package forkserver

import (
	"errors"
	"fmt"
	"maps"
	"math"
	"slices"
	"strconv"
	"sync"
	"time"

	"github.com/goproc/goproc/core/process"
	"github.com/goproc/goproc/core/sys"
)

// ErrGone is wrapped by errors that say that the fork server is not there, or was lost.
var ErrGone = errors.New("there is no fork server")

// How long the server may take.
const (
	sendPatience = 10 * time.Second // to make room for a request: it is forking meanwhile, or stopped
	stopPatience = 2 * time.Second  // to end when it is told to, before it is killed
	killPatience = 2 * time.Second  // to be gone after that
)

// Client is the one fork server of an engine, if it has one. Its methods may be called from any goroutine.
type Client struct {
	table *process.Table

	changing sync.Mutex // held by Ensure and Stop: one at a time starts or stops a server

	mu       sync.Mutex
	server   *server          // nil if none runs
	alive    map[*server]bool // whose processes have not ended, lost ones too
	requests map[int]*request // started by Request, not yet told by Reply
	pings    int              // how many there were; they number pings
}

// request is a process that was asked for.
type request struct {
	answered chan struct{} // closed when the rest holds
	sentinel int
	err      error
}

// New makes a client without a server.
func New(table *process.Table) *Client {
	return &Client{table: table, alive: map[*server]bool{}, requests: map[int]*request{}}
}

// Ensure starts a server with the command, unless one runs, and returns the server's process number. Each element of
// the command that equals placeholder is replaced by the number of the server's end of the socket.
func (c *Client) Ensure(command process.Command, placeholder string) (pid int, err error) {
	c.changing.Lock()
	defer c.changing.Unlock()
	if s := c.current(); s != nil {
		if s.runs() {
			return s.pid, nil
		}
		s.lose(errors.New("it has ended"))
		<-s.done
	}
	ours, theirs, err := sys.Seqpacket("fork server socket")
	if err != nil {
		return 0, err
	}
	command.Argv = slices.Clone(command.Argv)
	for i, argument := range command.Argv {
		if argument == placeholder {
			command.Argv[i] = strconv.Itoa(theirs.Int())
		}
	}
	command.Keep = append(slices.Clone(command.Keep), theirs.Int())
	id, err := c.table.Spawn(process.Server, command)
	if closeErr := theirs.Close(); err == nil {
		err = closeErr
	}
	if err != nil {
		return 0, errors.Join(err, ours.Close())
	}
	if pid, err = c.table.Pid(id); err != nil {
		return 0, errors.Join(err, ours.Close())
	}
	s := newServer(c, id, pid, ours)
	c.mu.Lock()
	c.server, c.alive[s] = s, true
	c.mu.Unlock()
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

// Ping asks the server for a sign of life and waits for it. The error wraps ETIMEDOUT when none came in time.
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

// Request asks the server for a process, which gets copies of the descriptors fds, and returns the process's entry at
// once. Reply tells how it went.
func (c *Client) Request(fds []int) (id int, err error) {
	if len(fds) > sys.MaxPassed {
		return 0, fmt.Errorf("%w: too many fds: a process can be given %d", process.ErrInvalid, sys.MaxPassed)
	}
	s := c.current()
	if s == nil {
		return 0, ErrGone
	}
	if id, err = c.table.Expect(); err != nil {
		return 0, err
	}
	if id > math.MaxInt32 {
		_ = c.table.Abort(id)
		return 0, fmt.Errorf("%w: the fork server cannot number process %d", process.ErrInvalid, id)
	}
	r := &request{answered: make(chan struct{})}
	c.mu.Lock()
	c.requests[id] = r
	c.mu.Unlock()
	if err := s.request(id, r, fds); err != nil {
		c.Forget(id)
		_ = c.table.Abort(id)
		return 0, err
	}
	return id, nil
}

// Reply waits for the answer to a request, at most for patience, and returns the process's sentinel, 0 when there is
// no answer yet. After an error the entry is gone; ErrGone says that the server ended before it answered.
func (c *Client) Reply(id int, patience time.Duration) (sentinel int, err error) {
	c.mu.Lock()
	r := c.requests[id]
	c.mu.Unlock()
	if r == nil {
		return c.table.Sentinel(id)
	}
	timer := time.NewTimer(patience)
	defer timer.Stop()
	select {
	case <-r.answered:
	default:
		select {
		case <-r.answered:
		case <-timer.C:
			return 0, nil
		}
	}
	c.Forget(id)
	return r.sentinel, r.err
}

// Forget says that nobody will ask for the reply any more.
func (c *Client) Forget(id int) {
	c.mu.Lock()
	defer c.mu.Unlock()
	delete(c.requests, id)
}

// Stop ends the server, if one runs, and returns when it is gone: after a while it is killed. Its processes go on.
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

// lost takes the server out, so that the next Ensure starts another.
func (c *Client) lost(s *server) {
	c.mu.Lock()
	defer c.mu.Unlock()
	if c.server == s {
		c.server = nil
	}
}

// ended says that the server's process has ended, so that Stop need not wait for it.
func (c *Client) ended(s *server) {
	c.mu.Lock()
	defer c.mu.Unlock()
	delete(c.alive, s)
}
