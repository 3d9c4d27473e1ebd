//go:build gofuzz

// Package router fuzzes the items server with its mistakes.
package router

import "example.com/router/items"

// FuzzRequest answers one HTTP request.
func FuzzRequest(data []byte) int {
	return items.Fuzz(items.Bugs{Panic: true, Race: true}, data)
}
