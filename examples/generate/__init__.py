"""The modules that draw, cut and write the example sets of the demo.

They are needed only to make the sets again; nothing that runs in the demo imports them.
"""
