package capi

// #cgo CFLAGS: -D_GNU_SOURCE
// #include "execute.h"
// #include <stdlib.h>
import "C"

import (
	"strings"
	"syscall"
	"unsafe"

	"github.com/goproc/goproc/core/sys"
)

func init() { sys.Executor = execute }

// execute executes a program on the calling thread; see execute.h and sys.Execute. keep is sorted.
//
// All arguments are copied to C's memory. The child may be a forked one, without Go's memory.
func execute(path string, argv, environ []string, keep []int) (pid int, err error) {
	lists := [][]string{{path}, argv, environ}
	pointers, bytes := 0, 0
	for _, texts := range lists {
		pointers += len(texts) + 1 // NULL
		for _, text := range texts {
			if strings.IndexByte(text, 0) >= 0 {
				return 0, syscall.EINVAL
			}
			bytes += len(text) + 1
		}
	}
	const width = unsafe.Sizeof(uintptr(0))
	size := uintptr(pointers)*width + uintptr(len(keep))*C.sizeof_int32_t + uintptr(bytes)
	block := C.calloc(1, C.size_t(size)) // not C.CString, which ends the process when there is no memory
	if block == nil {
		return 0, syscall.ENOMEM
	}
	defer C.free(block)
	table := unsafe.Slice((**C.char)(block), pointers)
	numbers := (*C.int32_t)(unsafe.Add(block, uintptr(pointers)*width))
	for i, fd := range keep {
		unsafe.Slice(numbers, len(keep))[i] = C.int32_t(fd)
	}
	text := unsafe.Add(unsafe.Pointer(numbers), uintptr(len(keep))*C.sizeof_int32_t)
	at := 0
	var heads [3]**C.char
	for i, texts := range lists {
		heads[i] = &table[at]
		for _, t := range texts {
			table[at] = (*C.char)(text)
			copy(unsafe.Slice((*byte)(text), len(t)), t)
			text = unsafe.Add(text, len(t)+1)
			at++
		}
		at++
	}
	result := C.goproc_execute(*heads[0], heads[1], heads[2], numbers, C.int32_t(len(keep)))
	if result < 0 {
		return 0, syscall.Errno(-result)
	}
	return int(result), nil
}
