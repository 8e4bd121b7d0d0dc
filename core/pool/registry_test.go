package pool

import (
	"sync"
	"testing"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"
)

func TestRegistry(t *testing.T) {
	var registry Registry
	_, err := registry.Get(1)
	require.ErrorIs(t, err, ErrClosed)
	require.ErrorIs(t, err, ErrNone)
	registry.Destroy(1)

	first, err := New(nil)
	require.NoError(t, err)
	second, err := New(nil)
	require.NoError(t, err)
	one, err := registry.Put(first)
	require.NoError(t, err)
	two, err := registry.Put(second)
	require.NoError(t, err)
	assert.Positive(t, one)
	assert.NotEqual(t, one, two)
	got, err := registry.Get(one)
	require.NoError(t, err)
	assert.Same(t, first, got)

	registry.Destroy(one)
	registry.Destroy(one)
	_, err = registry.Get(one)
	require.ErrorIs(t, err, ErrClosed)
	require.ErrorContains(t, err, "pool 1 has been destroyed")

	third, err := New(nil)
	require.NoError(t, err)
	three, err := registry.Put(third)
	require.NoError(t, err)
	assert.EqualValues(t, 3, three, "numbers are never used again")

	registry.Close()
	_, err = registry.Get(two)
	require.ErrorIs(t, err, ErrNone)
	assert.Empty(t, registry.pools)
	late, err := New(nil)
	require.NoError(t, err)
	_, err = registry.Put(late)
	require.ErrorIs(t, err, ErrClosed)
}

func TestRegistryIsSafe(t *testing.T) {
	var registry Registry
	var busy sync.WaitGroup
	for range 4 {
		busy.Go(func() {
			for range 50 {
				p, err := New(nil)
				if !assert.NoError(t, err) {
					return
				}
				number, err := registry.Put(p)
				assert.NoError(t, err)
				got, err := registry.Get(number)
				assert.NoError(t, err)
				assert.Same(t, p, got)
				registry.Destroy(number)
			}
		})
	}
	busy.Wait()
	assert.Empty(t, registry.pools)
}
