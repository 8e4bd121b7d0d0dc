package pool

import (
	"fmt"
	"sync"
)

// Registry numbers the pools, since C and Python name them by number.
type Registry struct {
	mu    sync.RWMutex
	pools map[int64]*Pool
	last  int64
}

// Put adds a pool and returns its number, which is never used again.
func (r *Registry) Put(p *Pool) int64 {
	r.mu.Lock()
	defer r.mu.Unlock()
	if r.pools == nil {
		r.pools = map[int64]*Pool{}
	}
	r.last++
	r.pools[r.last] = p
	return r.last
}

// Get is the pool of that number.
func (r *Registry) Get(number int64) (*Pool, error) {
	r.mu.RLock()
	defer r.mu.RUnlock()
	if p := r.pools[number]; p != nil {
		return p, nil
	}
	return nil, fmt.Errorf("%w: pool %d has been destroyed, or never was", ErrClosed, number)
}

// Destroy takes the pool of that number out and destroys it. Destroying what is not there does nothing.
func (r *Registry) Destroy(number int64) {
	r.mu.Lock()
	p := r.pools[number]
	delete(r.pools, number)
	r.mu.Unlock()
	if p != nil {
		p.Destroy()
	}
}

// Clear destroys all pools.
func (r *Registry) Clear() {
	r.mu.Lock()
	pools := r.pools
	r.pools = nil
	r.mu.Unlock()
	for _, p := range pools {
		p.Destroy()
	}
}

// Pools are the pools of this process's engine.
var Pools Registry
