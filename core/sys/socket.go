package sys

import (
	"encoding/binary"
	"errors"
	"fmt"
	"time"

	"golang.org/x/sys/unix"
)

// MaxPassed is how many descriptors one message can carry: the kernel's SCM_MAX_FD (unix(7)).
const MaxPassed = 253

// ErrTruncated is returned by Receive for a message that is longer than its buffer, or whose descriptors the kernel
// dropped because this process may open no more.
var ErrTruncated = errors.New("the message was truncated")

// Seqpacket makes a connected pair of sockets that keep messages apart and carry descriptors (SOCK_SEQPACKET,
// unix(7)).
func Seqpacket(what string) (*FD, *FD, error) {
	fds, err := unix.Socketpair(unix.AF_UNIX, unix.SOCK_SEQPACKET|unix.SOCK_CLOEXEC, 0)
	if err != nil {
		return nil, nil, fmt.Errorf("socketpair for %s: %w", what, err)
	}
	return ownPair(fds[0], fds[1], what)
}

// Send sends one message with copies of the descriptors fds. If the other end does not take it within patience, the
// error wraps ETIMEDOUT.
func Send(socket *FD, message []byte, fds []int, patience time.Duration) error {
	var rights []byte
	if len(fds) > 0 {
		rights = unix.UnixRights(fds...)
	}
	if err := socket.Check(); err != nil {
		return err
	}
	deadline := time.Now().Add(patience)
	for {
		_, err := retry(func() (int, error) {
			return unix.SendmsgN(socket.Int(), message, rights, nil, unix.MSG_DONTWAIT|unix.MSG_NOSIGNAL)
		})
		if err == nil {
			return nil
		}
		if err != unix.EAGAIN {
			return fmt.Errorf("sendmsg: %w", err)
		}
		left := time.Until(deadline)
		if left <= 0 {
			return fmt.Errorf("the other end takes no messages: %w", unix.ETIMEDOUT)
		}
		writable := []unix.PollFd{{Fd: int32(socket.Int()), Events: unix.POLLOUT}}
		if _, err := unix.Poll(writable, int(left.Milliseconds())+1); err != nil && err != unix.EINTR {
			return fmt.Errorf("poll: %w", err)
		}
	}
}

// Receive waits for one message and copies it to buffer. The caller owns the descriptors that came with it. n is 0 when
// the other end has been closed, or Shutdown was called, and all messages that had arrived before have been received.
// If the error is ErrTruncated, n and passed are what is left of the message.
func Receive(socket *FD, buffer []byte) (n int, passed []*FD, err error) {
	if err := socket.Check(); err != nil {
		return 0, nil, err
	}
	control := make([]byte, unix.CmsgSpace(MaxPassed*4))
	var controlLen, flags int
	n, err = retry(func() (n int, err error) {
		n, controlLen, flags, _, err = unix.Recvmsg(socket.Int(), buffer, control, unix.MSG_CMSG_CLOEXEC)
		return n, err
	})
	if err != nil {
		return 0, nil, fmt.Errorf("recvmsg: %w", err)
	}
	messages, err := unix.ParseSocketControlMessage(control[:controlLen])
	if err != nil {
		return 0, nil, fmt.Errorf("control message: %w", err)
	}
	for i := range messages {
		// If something is wrong with one descriptor, the others are open all the same, and need an owner.
		if messages[i].Header.Level != unix.SOL_SOCKET || messages[i].Header.Type != unix.SCM_RIGHTS {
			continue
		}
		for data := messages[i].Data; len(data) >= 4; data = data[4:] {
			f, ownErr := own(int(int32(binary.NativeEndian.Uint32(data))), "passed descriptor")
			if ownErr != nil {
				flags |= unix.MSG_CTRUNC
				continue
			}
			passed = append(passed, f)
		}
	}
	if flags&(unix.MSG_TRUNC|unix.MSG_CTRUNC) != 0 {
		return n, passed, ErrTruncated
	}
	return n, passed, nil
}

// ShutdownSending ends one direction: Receive returns at the other end, which can still send.
func ShutdownSending(socket *FD) {
	if socket.Ours() {
		_ = unix.Shutdown(socket.Int(), unix.SHUT_WR)
	}
}

// Shutdown ends both directions: Receive returns, here and at the other end.
func Shutdown(socket *FD) {
	if socket.Ours() {
		_ = unix.Shutdown(socket.Int(), unix.SHUT_RDWR)
	}
}
