"""The commands of the `minialbert` program: each module adds its arguments and runs; heavy imports wait until then."""
