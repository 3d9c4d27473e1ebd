// Package fixed fuzzes the lookup of prices without its mistake.
package fixed
