// Package capi exports the engine's C ABI, which goproc.h describes. Only this package and package host use cgo.
//
// Threads of the Python program make these calls inline, with the GIL held: a call costs some hundred nanoseconds and
// no thread switch.
package capi

// #include "goproc.h"
//
// typedef const void *const_bytes; // cgo has no other name for it
import "C"

import (
	"errors"
	"unsafe"

	"github.com/goproc/goproc/core/engine"
	"github.com/goproc/goproc/core/guard"
	"github.com/goproc/goproc/core/pool"
	"github.com/goproc/goproc/core/process"
	"github.com/goproc/goproc/core/ring"
	"github.com/goproc/goproc/core/sys"
	"golang.org/x/sys/unix"
)

const (
	abiVersion = C.GOPROC_ABI_VERSION
	ePoisoned  = C.GOPROC_EPOISONED
)

//export goproc_abi_version
func goproc_abi_version() C.int32_t {
	sys.OpenRuntimePoller()
	return abiVersion
}

//export goproc_fd_register
func goproc_fd_register(count *C.int32_t) *C.goproc_listed {
	slots := sys.Register()
	*count = C.int32_t(len(slots))
	return (*C.goproc_listed)(unsafe.Pointer(unsafe.SliceData(slots)))
}

//export goproc_share_seats
func goproc_share_seats(seats *C.goproc_seats) (result C.int32_t) {
	err := guard.Check()
	defer func() { result = C.int32_t(code(err)) }()
	defer guard.Recover("goproc_share_seats", &err)
	if err == nil {
		engine.Get().Table.Share((*process.Seats)(unsafe.Pointer(seats)))
	}
	return
}

//export goproc_close
func goproc_close() (result C.int32_t) {
	err := guard.Check()
	defer func() {
		if errors.Is(err, guard.ErrPoisoned) {
			result = ePoisoned
		}
	}()
	defer guard.Recover("goproc_close", &err)
	if err == nil {
		_ = engine.Get().Close() // at the end of the process nobody can be told of an error
	}
	return
}

//export goproc_pool_submit
func goproc_pool_submit(number C.int64_t, job, index C.uint64_t, count, flags C.uint32_t, payload C.const_bytes, size C.uint64_t) (result C.int32_t) {
	err := guard.Check()
	urgent := false
	defer func() {
		if result = C.int32_t(code(err)); urgent && result == 0 {
			result = 1
		}
	}()
	defer guard.Recover("goproc_pool_submit", &err)
	if err != nil {
		return
	}
	p, err2 := engine.Get().Pools.Get(int64(number))
	if err = err2; err == nil {
		err = p.Submit(ring.Frame{Flags: uint16(flags), Job: uint64(job), Index: uint64(index), End: uint32(count)}, unsafe.Slice((*byte)(payload), int(size)))
		urgent = p.Urgent()
	}
	return
}

//export goproc_pool_collect
func goproc_pool_collect(number C.int64_t, buffer unsafe.Pointer, capacity C.uint64_t) C.int64_t {
	return bytesOf("goproc_pool_collect", number, func(p *pool.Pool) int {
		return p.Collect(unsafe.Slice((*byte)(buffer), int(capacity)))
	})
}

//export goproc_pool_unseen
func goproc_pool_unseen(number C.int64_t) C.int64_t {
	return bytesOf("goproc_pool_unseen", number, (*pool.Pool).Unseen)
}

// bytesOf makes a call of a pool that returns a number of bytes.
func bytesOf(name string, number C.int64_t, count func(*pool.Pool) int) (bytes C.int64_t) {
	err := guard.Check()
	defer func() {
		if err != nil {
			bytes = C.int64_t(code(err))
		}
	}()
	defer guard.Recover(name, &err)
	if err != nil {
		return
	}
	p, err2 := engine.Get().Pools.Get(int64(number))
	if err = err2; err == nil {
		bytes = C.int64_t(count(p))
	}
	return
}

//export goproc_poison
func goproc_poison(text *C.char, capacity C.int32_t) C.int32_t {
	err := guard.Check()
	if err == nil || capacity < 1 {
		return 0
	}
	buffer := unsafe.Slice((*byte)(unsafe.Pointer(text)), int(capacity))
	n := copy(buffer[:len(buffer)-1], err.Error())
	buffer[n] = 0
	return C.int32_t(n)
}

// code is the C result for err.
func code(err error) int {
	switch {
	case err == nil:
		return 0
	case errors.Is(err, guard.ErrPoisoned):
		return ePoisoned
	case errors.Is(err, pool.ErrTooLarge):
		return -int(unix.EMSGSIZE)
	case errors.Is(err, pool.ErrNoMemory):
		return -int(unix.ENOMEM)
	case errors.Is(err, pool.ErrClosed):
		return -int(unix.EPIPE)
	default:
		return -int(unix.EINVAL)
	}
}
