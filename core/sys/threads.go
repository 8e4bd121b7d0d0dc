package sys

import "sync"

// AddThread makes one more thread ahead of need, for a goroutine that is about to hold a thread for long. Package host
// sets it; it is nil in tests of packages that are not linked with C.
var AddThread func() error

// Threads counts goroutines of one kind that hold a thread for long, in system calls. The zero value allows one such
// goroutine, because one thread for it is made when the engine starts.
type Threads struct {
	mu         sync.Mutex
	held, made int
}

// Take notes one more goroutine. It fails when the system refuses a thread. Then the goroutine must not be started: the
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

// Give notes that one of the goroutines has ended. Its thread stays for the next one.
func (t *Threads) Give() {
	t.mu.Lock()
	defer t.mu.Unlock()
	t.held--
}
