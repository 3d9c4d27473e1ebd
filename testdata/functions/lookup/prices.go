// Package lookup fuzzes the lookup of prices, with its mistake.
package lookup
