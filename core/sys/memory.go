package sys

import "unsafe"

// int32s sees mem, whose length is a multiple of four, as int32s.
func int32s(mem []byte) []int32 {
	return unsafe.Slice((*int32)(unsafe.Pointer(unsafe.SliceData(mem))), len(mem)/4)
}
