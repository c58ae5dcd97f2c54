"""Jobs: commands of ``instil`` in a queue for one device, in a file that outlives the studio."""
