package sys

import "sync"

// AddThread makes one more thread ahead, for a goroutine that is about to hold one for long. Package host sets it; it
// is nil in tests of packages that are not linked with C.
var AddThread func() error

// Threads counts goroutines of one kind that hold a thread for long, in system calls. The zero value has room for one:
// that many threads are there from the start.
type Threads struct {
	mu         sync.Mutex
	held, made int
}

// Take notes one more. It fails when the system refuses the thread: the goroutine must not be started then, for the
// runtime would wait for a thread, and the program for the runtime.
func (t *Threads) Take() error {
	t.mu.Lock()
	defer t.mu.Unlock()
	if t.held == t.made+1 {
		if AddThread != nil {
			if err := AddThread(); err != nil {
				return err
			}
		}
		t.made++
	}
	t.held++
	return nil
}

// Give notes that one has ended. Its thread stays for the next.
func (t *Threads) Give() {
	t.mu.Lock()
	defer t.mu.Unlock()
	t.held--
}
