// Planes of the initial scores for the mask decoder's mode `prior` (docs/format.md, sections 3 and 5): v of
// WIDTH free ordinals a cycle, an aligned group of them, the block after theirs filled ahead. Starts at
// `start` with the group of the first ordinal; v_valid once its block is there; each cycle with `take` goes
// to the next group. Planes are not stalled for where (planes + sign) * (cycles of a call) <= 128 / WIDTH -
// 3. Bits: 2 * 128 a plane (9 at most), 96 of control.
module score_planes #(
    parameter integer WIDTH = 1  // 1, 2 or 4
) (
    input  logic         clk,
    input  logic         rst,
    input  logic [ 31:0] layer,
    input  logic [  3:0] planes,      // 0 to 8
    input  logic         with_sign,
    input  logic         start,       // planes + sign at least 1
    input  logic [ 31:0] first,       // the first ordinal
    input  logic [ 24:0] last_group,  // the block of the last ordinal
    output logic         v_valid,
    output logic [9*WIDTH-1:0] v,  // of each
    input  logic         take,
    input  logic         stop,        // asks for no more until the next start
    output logic         asking,      // words are still to come
    // the generator
    output logic         call_valid,
    input  logic         call_ready,
    output logic [127:0] counter,
    input  logic         words_valid,
    output logic         words_ready,
    input  logic [127:0] words
);
    logic [128*9-1:0] now, ahead;
    logic [6:0] at;              // the group's first bit in its block
    logic now_valid, filling, full;
    logic [24:0] block, last_block;  // that is being filled; the last that is needed
    logic [3:0] asked, had;

    wire [3:0] all = planes + {3'd0, with_sign};
    wire [31:0] plane = asked == planes ? 32'd16 : {28'd0, asked};
    assign call_valid = filling && asked != all && !stop;
    assign asking = asked != had;
    assign counter = {32'd2, layer, plane, 7'd0, block};
    assign words_ready = asking;
    wire come = asking && words_valid;

    wire leaves = take && at == 7'd0 - WIDTH[6:0];  // the block
    wire moves = full && (leaves || !now_valid);

    logic [8:0] number;
    integer i, j;
    always_comb begin
        v = '0;
        for (j = 0; j < WIDTH; j = j + 1) begin
            number = 9'd0;
            for (i = 0; i < 9; i = i + 1) begin
                if (i[3:0] < all) number = {number[7:0], now[128*i+j+{25'd0, at}]};
            end
            v[9*j+:9] = number;
        end
    end
    assign v_valid = now_valid;

    always_ff @(posedge clk) begin
        if (rst) begin
            now_valid <= 1'b0;
            filling <= 1'b0;
            full <= 1'b0;
        end else if (start) begin
            now_valid <= 1'b0;
            filling <= 1'b1;
            full <= 1'b0;
        end else if (stop) begin
            now_valid <= 1'b0;
            filling <= 1'b0;
            full <= 1'b0;
        end else begin
            if (moves) now_valid <= 1'b1;
            else if (leaves) now_valid <= 1'b0;
            if (moves) begin
                full <= 1'b0;
                filling <= block != last_block;
            end else if (filling && had == all) begin
                full <= 1'b1;
                filling <= 1'b0;
            end
        end
        if (rst) begin
            asked <= '0;
            had <= '0;
        end else if (start) begin
            at <= first[6:0] & ~(WIDTH[6:0] - 7'd1);
            block <= first[31:7];
            last_block <= last_group;
            asked <= '0;
            had <= '0;
        end else begin
            if (take) at <= at + WIDTH[6:0];
            if (moves) begin
                now <= ahead;
                block <= block + 25'd1;
                asked <= '0;
                had <= '0;
            end else begin
                if (call_valid && call_ready) asked <= asked + 4'd1;
                if (come) had <= had + 4'd1;
            end
        end
        if (come) ahead[128*had+:128] <= words;
    end
endmodule
