"""Networks, their loss and the model package.

Importing the room loads nothing, as `card` and `shipped` do without torch.
"""
