package pool

import (
	"errors"
	"fmt"
	"sync"
)

// ErrNone is wrapped, with ErrClosed, by errors about a number that no pool has, or has any more.
var ErrNone = errors.New("no such pool")

// Registry numbers the pools of an engine, because C and Python name them by number. The zero value is ready.
type Registry struct {
	mu     sync.RWMutex
	pools  map[int64]*Pool
	last   int64
	closed bool
}

// Put adds a pool and returns its number, which is never used again. A closed registry destroys it instead.
func (r *Registry) Put(p *Pool) (int64, error) {
	r.mu.Lock()
	defer r.mu.Unlock()
	if r.closed {
		p.Destroy()
		return 0, ErrClosed
	}
	if r.pools == nil {
		r.pools = map[int64]*Pool{}
	}
	r.last++
	r.pools[r.last] = p
	return r.last, nil
}

// Get is the pool of that number.
func (r *Registry) Get(number int64) (*Pool, error) {
	r.mu.RLock()
	defer r.mu.RUnlock()
	if p := r.pools[number]; p != nil {
		return p, nil
	}
	return nil, fmt.Errorf("%w: %w: pool %d has been destroyed, or never was", ErrClosed, ErrNone, number)
}

// Destroy removes the pool of that number and destroys it. If there is none, it does nothing.
func (r *Registry) Destroy(number int64) {
	r.mu.Lock()
	p := r.pools[number]
	delete(r.pools, number)
	r.mu.Unlock()
	if p != nil {
		p.Destroy()
	}
}

// Close destroys all pools. A pool that is put in later is destroyed at once.
func (r *Registry) Close() {
	r.mu.Lock()
	pools := r.pools
	r.pools, r.closed = nil, true
	r.mu.Unlock()
	for _, p := range pools {
		p.Destroy()
	}
}
