"""The furniture that every room uses: databases, bus, loops, clock, errors, HTTP. It knows nothing of clouds."""
