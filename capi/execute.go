package capi

// #cgo CFLAGS: -D_GNU_SOURCE
// #include "execute.h"
import "C"

import (
	"runtime"
	"syscall"
	"unsafe"

	"github.com/goproc/goproc/core/sys"
)

func init() { sys.Executor = execute }

// execute executes a program on the calling thread; see execute.h and sys.Execute. keep is sorted.
func execute(path string, argv, environ []string, keep []int) (pid int, err error) {
	var pinner runtime.Pinner
	defer pinner.Unpin()
	program, err := syscall.BytePtrFromString(path)
	if err != nil {
		return 0, err
	}
	arguments, err := pinned(&pinner, argv)
	if err != nil {
		return 0, err
	}
	variables, err := pinned(&pinner, environ)
	if err != nil {
		return 0, err
	}
	numbers := make([]C.int32_t, 0, len(keep)+1) // never empty: it has an address
	for _, fd := range keep {
		numbers = append(numbers, C.int32_t(fd))
	}
	result := C.goproc_execute((*C.char)(unsafe.Pointer(program)), arguments, variables,
		unsafe.SliceData(numbers), C.int32_t(len(numbers)))
	if result < 0 {
		return 0, syscall.Errno(-result)
	}
	return int(result), nil
}

// pinned is a list of C strings that ends with NULL, in memory that does not move until the pinner is released.
func pinned(pinner *runtime.Pinner, texts []string) (**C.char, error) {
	list, err := syscall.SlicePtrFromStrings(texts)
	if err != nil {
		return nil, err
	}
	for _, text := range list[:len(texts)] {
		pinner.Pin(text)
	}
	return (**C.char)(unsafe.Pointer(unsafe.SliceData(list))), nil
}
