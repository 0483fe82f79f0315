"""What `emt` alone shows: each command in a line, and three lines to copy."""

TOUR = """\
emt enlarges pictures and video with the Efficient Mixed Transformer (EMT).

  emt upscale    pictures, to any size up to 16 times
  emt batch      folders of pictures, unattended, resumed after anything
  emt video      videos, with their sound, subtitles and timing
  emt models     the networks: list them, fetch and add some, look inside
  emt compare    a picture by several networks, side by side
  emt benchmark  quality, speed and memory, measured as papers do
  emt explain    what the network looks at
  emt train      a network of your own
  emt export     a network as ONNX or OpenVINO
  emt setup      the published network, after one question
  emt config     defaults of your own, and presets
  emt doctor     what works on this machine, and how to fix the rest

Try:
  emt photo.jpg                   photo_x4.jpg beside it; videos, folders too
  emt upscale photo.jpg --long-side 3840 -f png
  emt video clip.mp4 --scale 2

`emt COMMAND --help` tells all of a command;
`emt --install-completion` lets the Tab key finish it."""
