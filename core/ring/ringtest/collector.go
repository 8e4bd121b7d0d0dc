package ringtest

import (
	"encoding/binary"
	"os"
	"strings"
	"time"
	"unsafe"

	"github.com/goproc/goproc/core/ring"
	"golang.org/x/sys/unix"
)

// Completion is one of the completions of a pool: the outcome of a task, or that a worker has ended.
type Completion struct {
	ring.Frame
	Payload []byte
}

// Decode takes apart what a pool's Collect has put into buf.
func Decode(buf []byte) []Completion {
	var all []Completion
	for len(buf) > 0 {
		le := binary.LittleEndian
		size := int(le.Uint32(buf))
		all = append(all, Completion{
			Frame: ring.Frame{
				Kind:  ring.Kind(le.Uint16(buf[4:])),
				Flags: le.Uint16(buf[6:]),
				Job:   le.Uint64(buf[8:]),
				Index: le.Uint64(buf[16:]),
				Busy:  le.Uint32(buf[28:]),
				End:   le.Uint32(buf[24:]),
			},
			Payload: append([]byte(nil), buf[headerSize:headerSize+size]...),
		})
		buf = buf[ring.Space(size):]
	}
	return all
}

// Collector is the thread that waits for results. At most one of a pool may wait at a time.
type Collector struct {
	page    []byte
	control *control
	buffer  []byte
}

// NewCollector maps the pool's page of the memory.
func NewCollector(memory int) (*Collector, error) {
	page, err := unix.Mmap(memory, 0, ring.PageSize, unix.PROT_READ|unix.PROT_WRITE, unix.MAP_SHARED)
	if err != nil {
		return nil, err
	}
	return &Collector{page: page, control: (*control)(unsafe.Pointer(&page[0])), buffer: make([]byte, 128<<10)}, nil
}

// Close unmaps the page.
func (c *Collector) Close() { _ = unix.Munmap(c.page) }

// Collect waits until collect finds something, at most as long as the timeout says. While it waits, it does not look
// from time to time, as the real thread does. So if a wake is lost, Collect times out, and the test fails.
func (c *Collector) Collect(collect func([]byte) int, timeout time.Duration) []Completion {
	deadline := time.Now().Add(timeout)
	for {
		seen := c.control.doorbell.Load()
		if used := collect(c.buffer); used > 0 {
			return Decode(c.buffer[:used])
		}
		left := time.Until(deadline)
		if left <= 0 {
			return nil
		}
		c.control.waiting.Or(ring.WaitingCollector)
		if c.control.doorbell.Load() == seen {
			wait(&c.control.doorbell, seen, &left)
		}
		c.control.waiting.And(^uint32(ring.WaitingCollector))
		if time.Now().After(deadline) {
			return nil // it does not look once more: if there is anything, it should have been woken
		}
	}
}

// Waiting tells whether a thread waits on the doorbell, or is about to.
func (c *Collector) Waiting() bool { return c.control.waiting.Load()&ring.WaitingCollector != 0 }

// Mapped lists the mappings of pools' memory that this process has, for tests to compare with nothing.
func Mapped() []string {
	maps, err := os.ReadFile("/proc/self/maps")
	if err != nil {
		return []string{err.Error()}
	}
	var mapped []string
	for line := range strings.Lines(string(maps)) {
		if strings.Contains(line, "goproc-pool memory") {
			mapped = append(mapped, line)
		}
	}
	return mapped
}
