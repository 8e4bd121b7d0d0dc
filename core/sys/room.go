package sys

import (
	"runtime"
	"sync"

	"golang.org/x/sys/unix"
)

// Room tells whether the heap may grow. The Go runtime ends the process when the kernel refuses memory. So code whose
// memory may grow without bound asks before it allocates. The zero value is ready.
type Room struct {
	mu   sync.Mutex
	left int // how many bytes may be allocated before the system is asked again
}

// roomStep is how many bytes are allowed each time the system has been asked. roomSpare is how much the system must
// have besides: the runtime maps ahead, and collects garbage only when the heap has doubled.
const (
	roomStep  = 8 << 20
	roomSpare = 32 << 20
)

// Allows reports whether that many bytes may be allocated: either the system would give the process that much, and
// more, or the heap has it free. A call costs little, because the system is asked only once for many bytes.
func (r *Room) Allows(bytes int) bool {
	r.mu.Lock()
	defer r.mu.Unlock()
	if r.left >= bytes {
		r.left -= bytes
		return true
	}
	step := max(roomStep, bytes)
	if !mappable(2*step+roomSpare) && !idle(2*step) {
		return false
	}
	r.left = step - bytes
	return true
}

// mappable tells whether the process could map that many bytes of memory now.
func mappable(bytes int) bool {
	mem, err := unix.Mmap(-1, 0, bytes, unix.PROT_READ|unix.PROT_WRITE, unix.MAP_PRIVATE|unix.MAP_ANONYMOUS|unix.MAP_NORESERVE)
	if err != nil {
		return false
	}
	return unix.Munmap(mem) == nil
}

// idle tells whether the heap has that many bytes, mapped and free.
func idle(bytes int) bool {
	var stats runtime.MemStats
	runtime.ReadMemStats(&stats)
	return stats.HeapIdle >= uint64(bytes)
}
