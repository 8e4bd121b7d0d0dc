package prefork

import (
	"errors"
	"fmt"
	"syscall"

	"github.com/goproc/goproc/core/guard"
	"github.com/goproc/goproc/core/sys"
	"golang.org/x/sys/unix"
)

// The reader of a server: a goroutine that server.start starts. It takes in the server's messages until the socket
// ends. Then it closes the socket, and settles the server, unless that has been done before.

// readAll takes in the server's messages, until the socket ends.
func (s *server) readAll() {
	defer guard.Goroutine("the reader of a server that forks")
	defer close(s.read)
	defer s.settle()
	defer s.closeSocket()
	buffer := make([]byte, messageSize+1) // one more, to see a message that is too long
	for {
		n, passed, err := sys.Receive(s.socket, buffer)
		if errors.Is(err, unix.ECONNRESET) {
			// The server has ended before it had read all messages. The kernel reports this once. Messages that the
			// server had sent before are still to come.
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

func (s *server) closeSocket() {
	s.lose(errors.New("its reader failed")) // only if the reader has panicked, this is the first reason, and is kept
	s.sending.Lock()
	defer s.sending.Unlock()
	_ = s.socket.Close()
}

// settle answers all open requests, and gives up the server's processes. Of what is read from then on, only new
// processes matter. Later calls wait for the first one, and do nothing.
func (s *server) settle() {
	s.settling.Do(func() {
		defer close(s.done)
		s.cleanUp()
	})
}

func (s *server) cleanUp() {
	s.client.lost(s)
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
	s.reapExpected()
	if !s.stopping {
		// Whatever was wrong with the server, it must not go on forking.
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
	if err == nil && s.reaped != nil {
		s.takeLate(m)
		return closeAll(passed)
	}
	if err == nil && !s.open(m) {
		err = fmt.Errorf("%w: a message of kind %d about %d, which is not open", errProtocol, m.Kind, max(m.PID, m.ID))
	}
	if err != nil {
		return errors.Join(err, closeAll(passed))
	}
	switch m.Kind {
	case Standby:
		s.announced(m.PID)
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
	case Forked:
		s.expect(m.PID, m.Ahead)
	}
	return nil
}

// takeLate takes in a message that comes after the server has been settled. A new process is ended. s is locked.
func (s *server) takeLate(m Message) {
	isNew := m.Kind == Standby || m.Kind == Forked && !s.early[m.PID]
	if isNew && !s.reaped[m.PID] {
		s.reaped[m.PID] = true
		sys.KillAndReap(m.PID)
	}
}

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
	case Forked:
		_, known := s.expected[m.PID]
		ok = !known && !s.foreign()
	}
	return ok
}

func closeAll(fds []*sys.FD) error {
	var errs []error
	for _, f := range fds {
		errs = append(errs, f.Close())
	}
	return errors.Join(errs...)
}
