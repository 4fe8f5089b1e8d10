#!/bin/sh
# Makes the embedded clips clip/main.mp4 and clip/bframes.mp4 with ffmpeg's test
# sources (lavfi), libx264 and its AAC encoder. Needs ffmpeg 5 or later with
# drawtext and the DejaVu fonts; takes a few minutes, because geq is slow.
#
# The clip is 8 s = 200 pictures at 25/s = 375 AAC frames at 48 kHz exactly, and
# whatever moves or sounds in it has a period that divides 8 s, so it loops
# without a seam. A dot lights up and a note is struck at each full second:
# eyes and ears notice when picture and sound drift apart.
set -eu
cd "$(dirname "$0")/clip"
tmp=$(mktemp -d)
trap 'rm -rf "$tmp"' EXIT
size=640x360 rate=25 turn='2*PI*T/8'

# cutout COLOUR EXPRESSION NAME: a colour, opaque where the expression is 1.
cutout() {
	echo "color=c=$1:s=$size:r=$rate,format=yuv420p[$3c];
		color=c=black:s=$size:r=$rate,format=gray,geq=lum='255*($2)'[$3m];
		[$3c][$3m]alphamerge[$3]"
}
# water COLOUR LEVEL SWELL WAVES SPEED OPACITY NAME: below a waving line.
water() {
	cutout "$1" "$6*clip(Y-$2+$3*sin(2*PI*$4*X/W-($5)*$turn)+3*sin(6*PI*X/W+2*$turn),0,1)" "$7"
}
# The sky, and a sun that moves in it; for one colour: glow, dusk, night, sun.
sky() {
	echo "st(0,pow(clip(Y/230,0,1),1.5)); st(1,hypot(X-320-170*sin($turn),Y-118+42*cos(2*$turn)));
		lerp($1*exp(-ld(1)/70)+ld(0)*$2+$3,$4,clip(34-ld(1),0,1))"
}
# One dot for each second; that of the running second is lit and fades.
dots="st(0,floor((X-176)/36)); st(1,hypot(X-194-36*ld(0),Y-328)); if(between(ld(0),0,7),
	clip(9.5-ld(1),0,1)*if(eq(ld(0),mod(floor(T+0.001),8)),1-0.43*mod(T,1),0.2),0)"

ffmpeg -v error -filter_complex "
	color=c=black:s=$size:r=$rate,format=gbrp,
	geq=r='$(sky 60 190 22 255)':g='$(sky 46 110 34 236)':b='$(sky 20 40 84 190)',format=yuv420p[sky];
	$(water 0x5b7fb4 196 10 2 -1 0.85 w1);
	$(water 0x2f6fa3 222 12 1 1 0.85 w2);
	$(water 0x1f5487 252 13 2 2 0.88 w3);
	$(water 0x123a63 286 12 1 -2 0.92 w4);
	$(cutout white "$dots" dots);
	[sky][w1]overlay[a]; [a][w2]overlay[b]; [b][w3]overlay[c]; [c][w4]overlay[d]; [d][dots]overlay,
	drawtext=font='DejaVu Sans':text=Runnel:fontcolor=white:fontsize=40:x=28:y=24,
	drawtext=font='DejaVu Sans Mono':text='%{eif\:n/25\:d}.%{eif\:mod(n\,25)*4\:d\:2}':
		fontcolor=white@0.85:fontsize=24:x=w-tw-28:y=30[v]" \
	-map '[v]' -frames:v 200 -c:v ffv1 "$tmp/video.mkv"

# Sound: a chord of frequencies that are multiples of 1/8 Hz, and over it a bell
# of eight notes (in semitones over 440 Hz), each struck at a full second.
chord='0.05*(1-0.5*cos(2*PI*t/8))*(sin(2*PI*146.875*t)+0.8*sin(2*PI*220*t)'
bell='st(0,mod(t,1)); st(1,mod(floor(t),8));
	st(2,eq(ld(1),0)*5+eq(ld(1),1)*9+eq(ld(1),2)*12+eq(ld(1),3)*14+eq(ld(1),4)*12+eq(ld(1),5)*9+eq(ld(1),6)*7);
	st(3,2*PI*440*pow(2,ld(2)/12)*ld(0));
	st(4,(1-exp(-300*ld(0)))*(1-ld(0))*(sin(ld(3))*exp(-4*ld(0))+0.25*sin(2*ld(3))*exp(-8*ld(0))))'
# Three turns are encoded and the middle one is kept, so that each frame follows
# what precedes it in the loop too. The encoder puts one priming frame in front.
ffmpeg -v error -f lavfi -i "aevalsrc=d=24:s=48000:c=stereo:exprs='
	$bell;0.24*ld(4)+$chord+0.5*sin(2*PI*370*t))|
	$bell;0.20*ld(4)+$chord+0.5*sin(2*PI*370.125*t))'" -c:a aac -b:a 64k -f adts "$tmp/turns.aac"
ffmpeg -v error -i "$tmp/turns.aac" -c copy -bsf:a 'noise=drop=lt(n\,376)+gte(n\,751)' -f adts "$tmp/turn.aac"
ffmpeg -v error -i "$tmp/turn.aac" -c copy "$tmp/audio.m4a"

# encode FILE INPUTS-AND-OPTIONS: a key frame each second, one fragment, no banner
# of the encoder.
encode() {
	file=$1
	shift
	ffmpeg -v error -y -i "$tmp/video.mkv" "$@" -c:v libx264 -preset veryslow -pix_fmt yuv420p \
		-g 25 -keyint_min 25 -sc_threshold 0 -bsf:v filter_units=remove_types=6 \
		-color_primaries smpte170m -color_trc smpte170m -colorspace smpte170m \
		-fflags +bitexact -movflags empty_moov+default_base_moof "$file"
}
encode main.mp4 -i "$tmp/audio.m4a" -c:a copy -profile:v high -bf 0 -crf 18
encode bframes.mp4 -an -s 320x180 -profile:v high -bf 2 -x264-params b-pyramid=none -crf 30
