# Lists the recipes.
default:
    @just --list

# Checks a change before it is committed, in under a minute once everything is built.
check:
    scripts/check

# Runs every check, or only these stages.
test *stages:
    scripts/test {{stages}}

# Runs what takes too long to be checked with every change, or only these stages.
deep-test *stages:
    scripts/deep-test {{stages}}

# Measures what decisions cost: a suite and its options.
bench *suite:
    scripts/bench {{suite}}

# Shows a key from its creation to its deletion, explained.
quickstart:
    cargo run -p llm-limiter --example quickstart

# Formats the code.
fmt:
    cargo fmt --all

# Opens the documentation.
doc:
    cargo doc --open -p llm-limiter
