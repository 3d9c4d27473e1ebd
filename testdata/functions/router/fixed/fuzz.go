//go:build gofuzz

// Package fixed fuzzes the items server without mistakes.
package fixed

import "example.com/router/items"

// FuzzRequest answers one HTTP request.
func FuzzRequest(data []byte) int { return items.Fuzz(items.Bugs{}, data) }
