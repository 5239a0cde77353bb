//go:build !linux

package render

func residentSet(int) int64 { return 0 }

func peakRSS(int) int64 { return 0 }
