package sys

import (
	"errors"
	"fmt"
	"math"
	"sync/atomic"
	"time"
	"unsafe"

	"golang.org/x/sys/unix"
)

// Poller waits for any of many descriptors to become readable (epoll(7)), and can be woken.
//
// Where the kernel has no epoll, a blind poller takes its place. It sees no descriptors: its Wait only ends when it is
// woken, or after a while.
type Poller struct {
	epoll           *FD // nil in a blind poller
	wakeRead, wakeW *FD // a pipe. Unlike an eventfd, each pipe has a mark of its own
	events          [64]unix.EpollEvent
	calls           atomic.Uint32 // the futex of a blind poller
}

// ErrLost says that the program has closed the poller's descriptors.
var ErrLost = errors.New("the program has closed the descriptors of the engine")

// NewPoller opens the descriptors of a poller. The error is of kind Refused if the kernel, or a sandbox, has no epoll.
func NewPoller(what string) (*Poller, error) {
	fd, err := unix.EpollCreate1(unix.EPOLL_CLOEXEC)
	if err != nil {
		return nil, fmt.Errorf("epoll_create1 for %s: %w", what, err)
	}
	p := &Poller{}
	if p.epoll, err = own(fd, what+" epoll"); err != nil {
		return nil, err
	}
	if p.wakeRead, p.wakeW, err = Pipe(what + " wake"); err != nil {
		_ = p.epoll.Close()
		return nil, err
	}
	for _, end := range []*FD{p.wakeRead, p.wakeW} {
		if err = unix.SetNonblock(end.Int(), true); err != nil {
			break
		}
	}
	if err == nil {
		err = p.Add(p.wakeRead, 0)
	}
	if err != nil {
		return nil, errors.Join(err, p.Close())
	}
	return p, nil
}

// NewBlindPoller makes a poller without descriptors.
func NewBlindPoller() *Poller { return &Poller{} }

// Refused reports whether err says that a system call is not there, or not allowed.
func Refused(err error) bool {
	return errors.Is(err, unix.ENOSYS) || errors.Is(err, unix.EPERM) || errors.Is(err, unix.EACCES)
}

// Blind reports whether the poller can see no descriptors.
func (p *Poller) Blind() bool { return p.epoll == nil }

// Intact reports whether the poller's descriptors are still what they were. A blind one has none to lose.
func (p *Poller) Intact() bool {
	if p.Blind() {
		return true
	}
	if !p.wakeRead.Ours() || !p.wakeW.Ours() {
		return false
	}
	// All epolls have one inode, so a mark cannot tell them apart. But only this one has the wake pipe in it.
	event := unix.EpollEvent{Events: unix.EPOLLIN}
	return unix.EpollCtl(p.epoll.Int(), unix.EPOLL_CTL_MOD, p.wakeRead.Int(), &event) == nil
}

// Add makes Wait report id, which is not 0, for as long as f is readable.
func (p *Poller) Add(f *FD, id int) error {
	if err := f.Check(); err != nil {
		return err
	}
	return p.AddNumber(f.Int(), id)
}

// AddNumber is Add for a descriptor that C owns.
func (p *Poller) AddNumber(fd, id int) error {
	if p.Blind() {
		return fmt.Errorf("there is no epoll: %w", unix.ENOSYS)
	}
	event := unix.EpollEvent{Events: unix.EPOLLIN, Fd: int32(id), Pad: int32(id >> 32)}
	if err := unix.EpollCtl(p.epoll.Int(), unix.EPOLL_CTL_ADD, fd, &event); err != nil {
		return fmt.Errorf("epoll_ctl add: %w", err)
	}
	return nil
}

// Remove undoes Add. It must be called before f is closed. A closed descriptor of which a forked child still has a copy
// stays in the epoll, and could not be removed any more.
func (p *Poller) Remove(f *FD) error { return p.RemoveNumber(f.Int()) }

// RemoveNumber is Remove for a descriptor that C owns.
func (p *Poller) RemoveNumber(fd int) error {
	if p.Blind() {
		return nil
	}
	if err := unix.EpollCtl(p.epoll.Int(), unix.EPOLL_CTL_DEL, fd, nil); err != nil {
		return fmt.Errorf("epoll_ctl del: %w", err)
	}
	return nil
}

// Int is the number of the epoll descriptor, to which C adds descriptors; -1 of a blind poller. See Witness.
func (p *Poller) Int() int { return p.epoll.Int() }

// Witness is the number and the mark of another descriptor of the poller, a pipe end. As long as that descriptor still
// has the mark, the number that Int returns is still the epoll's: a program that closes one usually closes both.
func (p *Poller) Witness() (fd int, mark uint32) {
	if p.Blind() {
		return -1, 0
	}
	return p.wakeRead.Int(), p.wakeRead.mark
}

// Wait appends to ids those whose descriptors are readable, and waits until there is at least one, until Wake, or until
// patience is over. The error is ErrLost if the poller is not Intact.
func (p *Poller) Wait(ids []int, patience time.Duration) ([]int, error) {
	if p.Blind() {
		FutexWait((*uint32)(unsafe.Pointer(&p.calls)), 0, patience)
		p.calls.Store(0)
		return ids, nil
	}
	if !p.Intact() {
		return ids, ErrLost
	}
	milliseconds := int(min((patience+time.Millisecond-1)/time.Millisecond, math.MaxInt32))
	n, err := unix.EpollWait(p.epoll.Int(), p.events[:], milliseconds)
	switch {
	case err == unix.EINTR:
		return ids, nil
	case err != nil:
		return ids, ErrLost
	}
	for _, event := range p.events[:n] {
		id := int(event.Pad)<<32 | int(uint32(event.Fd))
		if id != 0 {
			ids = append(ids, id)
			continue
		}
		var calls [64]byte
		if p.wakeRead.Ours() {
			_, _ = unix.Read(p.wakeRead.Int(), calls[:])
		}
	}
	return ids, nil
}

// Wake ends the current Wait, or the next one.
func (p *Poller) Wake() {
	if p.Blind() {
		p.calls.Store(1)
		FutexWake((*uint32)(unsafe.Pointer(&p.calls)))
		return
	}
	// EAGAIN, the only error that an open pipe has, means that the pipe is full: the next Wait will end anyway.
	if p.wakeW.Ours() {
		_, _ = unix.Write(p.wakeW.Int(), []byte{1})
	}
}

// Close closes the descriptors; no Wait may be going on.
func (p *Poller) Close() error {
	if p.Blind() {
		return nil
	}
	if !p.Intact() { // the number of the epoll may be that of one of the program's files
		return errors.Join(p.wakeRead.Close(), p.wakeW.Close(), p.epoll.forget())
	}
	return errors.Join(p.epoll.Close(), p.wakeRead.Close(), p.wakeW.Close())
}
